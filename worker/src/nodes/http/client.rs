//! Connections whose addresses were checked: the address that passes is the one that is dialed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, retry};
use rustls::{ClientConfig, RootCertStore};
use windlass_model::StepError;

use super::request::Request;
use crate::nodes::egress::{Blocked, EgressPolicy};

/// Time enough for three lost packets; a host that is down should show before the step's time is over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than servers wait before they hang up: a request on a dying connection has an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 16;
const RESPONSE_HEADERS_MAX: usize = 100;
const USER_AGENT: &str = concat!("windlass/", env!("CARGO_PKG_VERSION"));

/// Asks for a host's addresses; their ports mean nothing.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

pub(super) fn system_lookup() -> Lookup {
    Arc::new(|host| Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) }))
}

/// A client for every port that a rule names, and one for all others: a resolver is not told the port.
pub(super) struct Clients {
    policy: Arc<EgressPolicy>,
    lookup: Lookup,
    /// Made at first use: reading the system's certificates takes a while.
    by_port: BTreeMap<Option<u16>, OnceLock<Client>>,
}

impl Clients {
    pub(super) fn new(policy: EgressPolicy, lookup: Lookup) -> Self {
        let ports = policy.ports().into_iter().map(Some).chain([None]);
        let by_port = ports.map(|port| (port, OnceLock::new())).collect();
        Self { policy: Arc::new(policy), lookup, by_port }
    }

    /// Sends one request and follows nothing.
    pub(super) async fn send(&self, request: &Request) -> Result<Response, StepError> {
        self.policy.check_url(&request.url).map_err(|blocked| egress_blocked(request, &blocked))?;
        let client = self.client(request.url.port_or_known_default())?;
        let mut sent =
            client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if let Some(body) = &request.body {
            sent = sent.body(body.clone());
        }
        sent.send().await.map_err(|error| failure(&error, request))
    }

    fn client(&self, port: Option<u16>) -> Result<&Client, StepError> {
        let (port, client) = match self.by_port.get_key_value(&port) {
            Some((port, client)) => (*port, client),
            None => (None, &self.by_port[&None]),
        };
        if let Some(client) = client.get() {
            return Ok(client);
        }
        let resolver = Guarded { policy: self.policy.clone(), lookup: self.lookup.clone(), port };
        let made =
            make(resolver).map_err(|error| StepError::new("internal", format!("no HTTP client: {error}")))?;
        Ok(client.get_or_init(|| made))
    }
}

/// Resolves names to addresses that the policy allows, and to no others.
#[derive(Clone)]
struct Guarded {
    policy: Arc<EgressPolicy>,
    lookup: Lookup,
    port: Option<u16>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { policy, lookup, port } = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let addresses = lookup(host.to_owned()).await?;
            if addresses.is_empty() {
                return Err(io::Error::other("the name has no addresses").into());
            }
            if policy.allows_host(host, port) {
                return Ok(Box::new(addresses.into_iter()) as Addrs);
            }
            let refused = addresses[0].ip();
            let allowed: Vec<_> =
                addresses.into_iter().filter(|address| policy.allows_address(address.ip(), port)).collect();
            if allowed.is_empty() {
                return Err(Blocked::address(refused).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn make(resolver: Guarded) -> reqwest::Result<Client> {
    // The program installs it at its start; others that use this crate may have forgotten.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder(resolver.clone()).build().or_else(|error| {
        tracing::warn!(%error, "Found no certificates of this system: https will fail, http will work");
        let trusts_nobody =
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        builder(resolver).tls_backend_preconfigured(trusts_nobody).build()
    })
}

fn builder(resolver: Guarded) -> ClientBuilder {
    Client::builder()
        .dns_resolver(resolver)
        // A proxy would dial for us, unchecked.
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        // An attempt is one request; the definition says whether there is another.
        .retry(retry::never())
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
        .http1_max_headers(RESPONSE_HEADERS_MAX)
}

/// Names what went wrong on the way, by its innermost cause.
pub(super) fn failure(error: &reqwest::Error, request: &Request) -> StepError {
    let causes = causes(error);
    if let Some(blocked) = causes.iter().find_map(|cause| cause.downcast_ref::<Blocked>()) {
        return egress_blocked(request, blocked);
    }
    let is_tls = causes.iter().any(|cause| cause.is::<rustls::Error>());
    let has_long_head = causes
        .iter()
        .any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large));
    let innermost = causes.last().map_or_else(|| "no cause given".to_owned(), ToString::to_string);
    let (kind, sentence) = if is_tls {
        ("http.tls", format!("{request}: {innermost}"))
    } else if has_long_head {
        (
            "limit.response",
            format!("{request} answered more than {RESPONSE_HEADERS_MAX} headers, or too long ones"),
        )
    } else if error.is_timeout() {
        ("timeout", format!("{request}: no connection within {CONNECT_TIMEOUT:?}"))
    } else if error.is_connect() {
        ("http.connect", format!("{request}: {innermost}"))
    } else if error.is_builder() {
        ("http.invalid_request", format!("{request}: {innermost}"))
    } else {
        ("http.response", format!("{request} broke off: {innermost}"))
    };
    StepError::new(kind, sentence)
}

fn egress_blocked(request: &Request, blocked: &Blocked) -> StepError {
    StepError::new("egress_blocked", format!("{request}: {blocked}"))
}

/// The causes of an error, outermost first, also those that an IO error carries.
fn causes(error: &reqwest::Error) -> Vec<&(dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        let carried = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = carried.map(|carried| carried as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    causes
}
