//! Requests against servers that are difficult on purpose.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use windlass_engine::Runner as _;
use windlass_model::StepError;

use super::client::{Clients, Lookup, system_lookup};
use super::{Http, TIMEOUT_DEFAULT, request};
use crate::nodes::EgressPolicy;
use crate::nodes::testing::{error_of, step};

/// Listens, counts connections, keeps what was asked.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new<F>(address: &str, answer: F) -> Self
    where
        F: Fn(TcpStream) -> BoxFuture<'static, ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, asked) = (connections.clone(), requests.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let request = read_request(&mut stream).await;
                asked.lock().unwrap().push(request);
                tokio::spawn(answer(stream));
            }
        });
        Self { address, connections, requests }
    }

    /// Answers the same to everyone.
    async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::new("127.0.0.1:0", move |mut stream| {
            let answer = answer.clone();
            Box::pin(async move {
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            })
        })
        .await
    }

    /// Nobody should come.
    async fn canary(address: &str) -> Self {
        Self::new(address, |_| Box::pin(async {})).await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn request(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        match stream.read(&mut chunk).await {
            Ok(length @ 1..) => request.extend_from_slice(&chunk[..length]),
            _ => return String::from_utf8_lossy(&request).into_owned(),
        }
    }
}

fn answer(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn http(policy: &str, lookup: Lookup, time_max: Duration) -> Http {
    Http { clients: Clients::new(EgressPolicy::parse(policy).unwrap(), lookup), time_max }
}

/// Names resolve as `table` says, one answer after the other.
fn lookup(table: Vec<(&'static str, Vec<&'static str>)>) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, table) = (asked.clone(), Arc::new(Mutex::new(table)));
    let lookup: Lookup = Arc::new(move |host| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut table = table.lock().unwrap();
        let found = table.iter().position(|(name, _)| *name == host).map(|index| match table.len() {
            1 => table[index].1.clone(),
            _ => table.remove(index).1,
        });
        Box::pin(async move {
            let addresses = found.ok_or_else(|| std::io::Error::other("no such name"))?;
            Ok(addresses.iter().map(|text| SocketAddr::new(text.parse::<IpAddr>().unwrap(), 0)).collect())
        })
    });
    (lookup, asked)
}

async fn get(with: Value) -> Result<Value, StepError> {
    let http = http("127.0.0.1/32", system_lookup(), TIMEOUT_DEFAULT);
    http.run(step(json!({ "with": with }))).await.map(|done| done.output).map_err(|failure| failure.error)
}

async fn error(with: Value) -> StepError {
    get(with).await.expect_err("the request should have failed")
}

/// What a closed system answers, and by which name it is found.
async fn error_with(policy: &str, lookup: Lookup, url: &str) -> StepError {
    let http = http(policy, lookup, TIMEOUT_DEFAULT);
    error_of(http.run(step(json!({ "with": { "url": url } }))).await)
}

#[tokio::test]
async fn an_answer_has_a_status_headers_and_a_body() {
    let server = Server::saying(answer(
        "201 Created\r\nContent-Type: application/json; charset=utf-8\r\nX-Twice: a\r\nX-Twice: b",
        r#"{"id": 7, "big": 9007199254740993}"#,
    ))
    .await;
    let output = get(json!({ "url": server.url(), "method": "POST", "json": { "a": [1] } })).await.unwrap();
    assert_eq!(output["status"], 201);
    assert_eq!(output["headers"]["x-twice"], "a, b");
    assert_eq!(output["body"], json!({ "id": 7, "big": 9_007_199_254_740_993_u64 }));
    let request = server.request();
    assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"a\":[1]}"), "{request}");
    for line in ["content-type: application/json\r\n", "idempotency-key: key-1\r\n", "user-agent: windlass/"]
    {
        assert!(request.contains(line), "{line} is not in {request}");
    }
}

#[tokio::test]
async fn a_request_says_what_the_definition_says() {
    let server = Server::saying(answer("204 No Content", "")).await;
    let with = json!({
        "url": format!("{}find?x=1", server.url()),
        "method": "PUT",
        "headers": { "Idempotency-Key": "mine", "X-Number": 7, "X-None": null, "Content-Type": "text/csv" },
        "query": { "q": "a b&c", "n": 2, "many": ["x", true], "none": null },
        "body": "a;b\n"
    });
    assert_eq!(get(with).await.unwrap()["body"], "");
    let request = server.request();
    assert!(request.starts_with("PUT /find?x=1&q=a+b%26c&n=2&many=x&many=true HTTP/1.1\r\n"), "{request}");
    for line in ["idempotency-key: mine\r\n", "x-number: 7\r\n", "content-type: text/csv\r\n"] {
        assert!(request.contains(line), "{line} is not in {request}");
    }
    assert!(!request.contains("key-1") && !request.contains("x-none"), "{request}");
    assert!(request.ends_with("\r\n\r\na;b\n"), "{request}");
}

#[tokio::test]
async fn bodies_are_json_text_or_base64() {
    let cases: [(&str, &[u8], Value); 8] = [
        ("application/problem+json", br#"{"a":1}"#, json!({ "a": 1 })),
        ("application/json", b"\xef\xbb\xbf[1]", json!([1])),
        ("application/json", b" \n", Value::Null),
        ("application/json", b"<html>", json!("<html>")),
        ("text/plain", "grün".as_bytes(), json!("grün")),
        ("text/plain", br#"{"a":1}"#, json!(r#"{"a":1}"#)),
        ("image/png", b"\x89PNG\r\n", json!({ "base64": "iVBORw0K" })),
        ("text/plain", b"", json!("")),
    ];
    for (media_type, body, expected) in cases {
        let server = Server::saying(answer(&format!("200 OK\r\ncontent-type: {media_type}"), body)).await;
        assert_eq!(
            get(json!({ "url": server.url() })).await.unwrap()["body"],
            expected,
            "{media_type} {body:?}"
        );
    }
    let server = Server::saying(answer("200 OK", "")).await;
    get(json!({ "url": server.url(), "method": "POST", "body": { "base64": "aGVsbG8=" } })).await.unwrap();
    assert!(server.request().ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn a_status_from_400_on_is_an_error_with_a_preview() {
    let server =
        Server::saying(answer("503 Service Unavailable", format!("busy {}", "ü".repeat(5000)))).await;
    let error = error(json!({ "url": format!("{}secret-path?token=1", server.url()) })).await;
    assert_eq!(error.kind, "http.503");
    assert_eq!(error.message, format!("GET http://{} answered 503 Service Unavailable", server.address));
    let details = error.details.unwrap();
    assert_eq!(details["status"], 503);
    let preview = details["body"].as_str().unwrap();
    assert!(preview.starts_with("busy üü") && preview.ends_with('ü') && preview.len() <= 2048);
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_has_a_name() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(error(json!({ "url": format!("http://{free}/") })).await.kind, "http.connect");
    let (nowhere, _) = lookup(vec![]);
    assert_eq!(error_with("", nowhere, "http://no.example/").await.kind, "http.connect");
    let (empty, _) = lookup(vec![("empty.example", vec![])]);
    assert_eq!(error_with("", empty, "http://empty.example/").await.kind, "http.connect");
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", plain.local_addr().unwrap());
    tokio::spawn(async move {
        plain.accept().await.unwrap().0.write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n").await
    });
    assert_eq!(error(json!({ "url": url })).await.kind, "http.tls");
    let hangs_up = Server::saying("").await;
    assert_eq!(error(json!({ "url": hangs_up.url() })).await.kind, "http.response");
    let cut_off = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    assert_eq!(error(json!({ "url": cut_off.url() })).await.kind, "http.response");
    let broken = Server::saying(answer("200 OK\r\ncontent-encoding: gzip", "this is no gzip")).await;
    assert_eq!(error(json!({ "url": broken.url() })).await.kind, "http.response");
}

#[tokio::test]
async fn what_is_no_request_is_not_sent() {
    let server = Server::canary("127.0.0.1:0").await;
    let url = server.url();
    for with in [
        json!({ "url": url, "headers": { "X-A": "a\r\nX-Injected: 1" } }),
        json!({ "url": url, "headers": { "X-A\r\nX-Injected": "1" } }),
        json!({ "url": url, "headers": { "X-A": "grün" } }),
        json!({ "url": url, "headers": { "X-A": { "b": 1 } } }),
        json!({ "url": url, "headers": { "X-A": "x".repeat(65 * 1024) } }),
        json!({ "url": url, "headers": { "Content-Length": "3" } }),
        json!({ "url": url, "headers": { "transfer-encoding": "chunked" } }),
        json!({ "url": format!("{url}a b\r\nX-Injected: 1") }),
        json!({ "url": format!("{url}\thidden") }),
        json!({ "url": "nonsense" }),
        json!({ "url": "http://" }),
        json!({ "url": "http://1.2.3.256/" }),
        json!({ "url": url, "method": "CONNECT" }),
        json!({ "url": url, "method": "GET / HTTP/1.1\r\n" }),
        json!({ "url": url, "json": 1, "body": "b" }),
        json!({ "url": url, "method": "POST", "body": { "base64": "%%" } }),
    ] {
        assert_eq!(error(with.clone()).await.kind, "http.invalid_request", "{with}");
    }
    for with in [
        json!({ "url": url, "method": "x".repeat(1_000_000) }),
        json!({ "url": url, "headers": { "x y".repeat(300_000): 1 } }),
    ] {
        let message = error(with).await.message;
        assert!(message.len() < 200, "{message:.300}");
    }
    assert_eq!(error(json!({ "url": url, "unknown": 1 })).await.kind, "schema.input");
    assert_eq!(error(json!({})).await.kind, "schema.input");
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_host_is_named_in_one_way_however_it_is_written() {
    let host = |url: &str| request::host(&json!({ "with": { "url": url } }));
    for (url, name) in [
        ("https://Mail.Example/a?b#c", "mail.example"),
        ("https://mail.example.:443/", "mail.example"),
        ("http://mail.example:80", "mail.example"),
        ("https://mail.example:80/", "mail.example:80"),
        ("http://user:secret@mail.example:8080/", "mail.example:8080"),
        ("http://127.1:9/", "127.0.0.1:9"),
        ("http://[::0001]:9/", "[::1]:9"),
        ("https://gr\u{fc}n.example/", "xn--grn-ioa.example"),
    ] {
        assert_eq!(host(url).as_deref(), Some(name), "{url}");
    }
    for url in ["", "nonsense", "http://", "ftp://a.example/", "http://a.ex\tample/", "http://1.2.3.256/"] {
        assert_eq!(host(url), None, "{url}");
    }
    assert_eq!(host(&format!("http://{}example/", "long.".repeat(60))), None);
    assert_eq!(request::host(&json!({})), None);
}

#[tokio::test]
async fn redirects_are_followed_with_the_right_method() {
    for (status, sent, then) in [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (302, "PUT", "PUT"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "DELETE", "DELETE"),
    ] {
        let end = Server::saying(answer("200 OK", "here")).await;
        let start =
            Server::saying(answer(&format!("{status} Moved\r\nlocation: {}end", end.url()), "")).await;
        let output = get(json!({ "url": start.url(), "method": sent, "body": "content" })).await.unwrap();
        assert_eq!(output["body"], "here");
        assert!(
            end.request().starts_with(&format!("{then} /end HTTP/1.1")),
            "{status} {sent}: {}",
            end.request()
        );
        assert_eq!(end.request().ends_with("content"), then != "GET", "{status} {sent}");
    }
}

#[tokio::test]
async fn a_redirect_may_be_relative_and_may_lack_a_place() {
    let server = Server::saying(answer("302 Found\r\nlocation: /again", "")).await;
    let looped = error(json!({ "url": server.url() })).await;
    assert_eq!(looped.kind, "http.redirect");
    assert_eq!(server.connections(), super::REDIRECTS_MAX + 1);
    assert!(server.request().starts_with("GET /again "));
    let nowhere = Server::saying(answer("304 Not Modified", "")).await;
    assert_eq!(get(json!({ "url": nowhere.url() })).await.unwrap()["status"], 304);
    let silent = Server::saying(answer("302 Found", "stay")).await;
    assert_eq!(get(json!({ "url": silent.url() })).await.unwrap()["body"], "stay");
}

#[tokio::test]
async fn a_redirect_leaves_http_for_no_other_scheme() {
    for place in
        ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "data:text/plain,x", "http://[bad"]
    {
        let server = Server::saying(answer(&format!("302 Found\r\nlocation: {place}"), "")).await;
        assert_eq!(error(json!({ "url": server.url() })).await.kind, "http.redirect", "{place}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let end = Server::saying(answer("200 OK", "")).await;
    let start = Server::saying(answer(&format!("307 Moved\r\nlocation: {}", end.url()), "")).await;
    let headers = json!({
        "Authorization": "Bearer s3cret", "Cookie": "s3cret", "X-Api-Key": "s3cret", "Private-Token": "s3cret",
        "Proxy-Authorization": "s3cret", "X-Anything": "s3cret", "Accept": "text/plain", "Host": "s3cret"
    });
    get(json!({ "url": start.url(), "headers": headers })).await.unwrap();
    assert_eq!(start.request().matches("s3cret").count(), 7);
    let request = end.request();
    assert!(!request.contains("s3cret"), "{request}");
    assert!(
        request.contains("accept: text/plain\r\n") && request.contains("idempotency-key: key-1\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let server = Server::saying(answer("302 Found\r\nlocation: /again", "")).await;
    let _ = error(json!({ "url": server.url(), "headers": { "Authorization": "Bearer s3cret" } })).await;
    assert!(server.request().contains("authorization: Bearer s3cret"));
}

#[tokio::test]
async fn addresses_that_are_not_public_get_no_packet() {
    let (v4, v6) = (Server::canary("127.0.0.1:0").await, Server::canary("[::1]:0").await);
    let port = v4.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "%6c%6f%63alhost",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/");
        let error = error_with("", system_lookup(), &url).await;
        assert_eq!(error.kind, "egress_blocked", "{url}: {error:?}");
    }
    for url in [format!("http://[::1]:{}/", v6.address.port()), format!("http://[::]:{}/", v6.address.port())]
    {
        assert_eq!(error_with("", system_lookup(), &url).await.kind, "egress_blocked", "{url}");
    }
    assert_eq!((v4.connections(), v6.connections()), (0, 0));
}

#[tokio::test]
async fn names_that_lead_to_private_addresses_get_no_packet() {
    let canary = Server::canary("127.0.0.1:0").await;
    let url = format!("http://trap.example:{}/", canary.address.port());
    for addresses in [vec!["127.0.0.1"], vec!["::ffff:127.0.0.1"], vec!["::1"], vec!["10.0.0.1", "127.0.0.1"]]
    {
        let (lookup, _) = lookup(vec![("trap.example", addresses.clone())]);
        assert_eq!(error_with("", lookup, &url).await.kind, "egress_blocked", "{addresses:?}");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn of_mixed_addresses_only_the_allowed_are_dialed() {
    let server = Server::saying(answer("200 OK", "")).await;
    let canary = Server::canary(&format!("127.0.0.2:{}", server.address.port())).await;
    let (lookup, _) = lookup(vec![("mixed.example", vec!["127.0.0.2", "127.0.0.1", "127.0.0.2"])]);
    let http = http("127.0.0.1/32", lookup, TIMEOUT_DEFAULT);
    let url = format!("http://mixed.example:{}/", server.address.port());
    http.run(step(json!({ "with": { "url": url } }))).await.unwrap();
    assert_eq!((server.connections(), canary.connections()), (1, 0));
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_and_checked_each_time() {
    let server = Server::saying(answer("200 OK", "")).await;
    let canary = Server::canary(&format!("127.0.0.2:{}", server.address.port())).await;
    let answers = vec![("rebind.example", vec!["127.0.0.1"]), ("rebind.example", vec!["127.0.0.2"])];
    let (lookup, asked) = lookup(answers);
    let http = http("127.0.0.1/32", lookup, TIMEOUT_DEFAULT);
    let with = json!({ "with": { "url": format!("http://rebind.example:{}/", server.address.port()) } });
    http.run(step(with.clone())).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(error_of(http.run(step(with)).await).kind, "egress_blocked");
    assert_eq!((server.connections(), canary.connections()), (1, 0));
}

#[tokio::test]
async fn a_redirect_into_the_private_is_refused() {
    let canary = Server::canary("127.0.0.1:0").await;
    let port = canary.address.port();
    for place in [canary.url(), format!("http://trap.example:{port}/"), format!("http://2130706433:{port}/")]
    {
        let server = Server::saying(answer(&format!("302 Found\r\nlocation: {place}"), "")).await;
        let (lookup, _) = lookup(vec![("trap.example", vec!["127.0.0.1"])]);
        let policy = server.address.to_string();
        assert_eq!(error_with(&policy, lookup, &server.url()).await.kind, "egress_blocked", "{place}");
        assert_eq!(server.connections(), 1);
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_host_or_a_port_that_the_operator_names_is_allowed() {
    let server = Server::saying(answer("200 OK", "")).await;
    let port = server.address.port();
    let cases = [
        ("internal.example".to_owned(), true),
        (format!("internal.example:{port}"), true),
        (format!("127.0.0.1:{port}"), true),
        (format!("internal.example:{}", port ^ 1), false),
        (format!("127.0.0.1:{}", port ^ 1), false),
        ("other.example".to_owned(), false),
    ];
    for (policy, is_allowed) in cases {
        let (lookup, _) = lookup(vec![("internal.example", vec!["127.0.0.1"])]);
        let http = http(&policy, lookup, TIMEOUT_DEFAULT);
        let url = format!("http://internal.example:{port}/");
        assert_eq!(http.run(step(json!({ "with": { "url": url } }))).await.is_ok(), is_allowed, "{policy}");
    }
}

/// Not a test of its own: its environment names a proxy.
#[tokio::test]
#[ignore = "the other end of proxies_of_the_environment_are_not_used"]
async fn a_request_under_a_proxy() {
    let url = std::env::var("TEST_URL").expect("the other test sets it");
    get(json!({ "url": url })).await.unwrap();
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let server = Server::saying(answer("200 OK", "")).await;
    let canary = Server::canary("127.0.0.1:0").await;
    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "--ignored", "nodes::http::tests::a_request_under_a_proxy"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        program.env(name, canary.url());
    }
    let ended = program.env("TEST_URL", server.url()).output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!((server.connections(), canary.connections()), (1, 0));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_limit() {
    let server = Server::new("127.0.0.1:0", |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let zeros = vec![b'0'; 64 * 1024];
            while stream.write_all(&zeros).await.is_ok() {}
        })
    })
    .await;
    assert_eq!(error(json!({ "url": server.url() })).await.kind, "limit.response");
}

#[tokio::test]
async fn compressed_answers_are_measured_by_what_they_unfold_to() {
    let pack = |bytes: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b'0'; bytes]).unwrap();
        answer("200 OK\r\ncontent-encoding: gzip", gzip.finish().unwrap())
    };
    let small = Server::saying(pack(1000)).await;
    assert_eq!(get(json!({ "url": small.url() })).await.unwrap()["body"], "0".repeat(1000));
    assert!(small.request().contains("accept-encoding: gzip\r\n"));
    let bomb = Server::saying(pack(24 << 20)).await;
    assert_eq!(error(json!({ "url": bomb.url() })).await.kind, "limit.response");
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_refused() {
    let many: String = (0..10_000).map(|n| format!("\r\nx-{n}: 1")).collect();
    let long = format!("\r\nx-long: {}", "x".repeat(1 << 20));
    for headers in [many, long] {
        let server = Server::saying(answer(&format!("200 OK{headers}"), "")).await;
        assert_eq!(error(json!({ "url": server.url() })).await.kind, "limit.response");
    }
}

#[tokio::test]
async fn a_slow_drip_is_out_of_time() {
    let server = Server::new("127.0.0.1:0", |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    })
    .await;
    let http = http("127.0.0.1", system_lookup(), Duration::from_millis(300));
    let error = error_of(http.run(step(json!({ "with": { "url": server.url() } }))).await);
    assert_eq!(error.kind, "timeout");
}

#[tokio::test]
async fn a_cancel_ends_a_request_at_once() {
    let server = Server::new("127.0.0.1:0", |stream| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        })
    })
    .await;
    let step = step(json!({ "with": { "url": server.url() } }));
    let cancel = step.cancel.clone();
    let started = Instant::now();
    let http = http("127.0.0.1", system_lookup(), TIMEOUT_DEFAULT);
    let running = tokio::spawn(async move { http.run(step).await });
    while server.request().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    assert_eq!(error_of(running.await.unwrap()).kind, "canceled");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_only_reads_or_replaces_may_be_repeated() {
    for (params, is_repeatable) in [
        (json!({ "with": { "url": "u" } }), true),
        (json!({ "with": { "method": "GET" } }), true),
        (json!({ "with": { "method": "DELETE" } }), true),
        (json!({ "with": { "method": "POST" } }), false),
        (json!({ "with": { "method": "PATCH" } }), false),
        (json!({ "with": { "method": "${{ inputs.method }}" } }), false),
        (json!({ "with": { "method": 7 } }), false),
    ] {
        assert_eq!(request::is_repeatable(&params), is_repeatable, "{params}");
    }
}
