//! Files that steps left behind.

use serde_json::json;

use crate::house::{House, RUNS, steps};

async fn run_with_file(house: &House, name: &str, media_type: &str, content: &str) -> String {
    let file =
        json!({"id": "write", "type": "file", "file": name, "media_type": media_type, "content": content});
    house.run(&steps("files", json!([file]))).await
}

#[tokio::test]
async fn a_file_is_listed_and_downloaded_as_an_attachment() {
    let house = House::new();
    let run = run_with_file(&house, "notes <b>.html", "text/html", "<script>alert(1)</script>").await;
    let list = house.get(&format!("{RUNS}/{run}/artifacts")).await.ok();
    let item = &list["items"][0];
    assert_eq!(
        (&item["name"], &item["size_bytes"], &item["node"]),
        (&json!("notes <b>.html"), &json!(25), &json!("write"))
    );
    let file = house.get(item["path"].as_str().unwrap()).await;
    assert_eq!((file.status.as_u16(), file.text.as_str()), (200, "<script>alert(1)</script>"));
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"notes__b_.html\"; filename*=UTF-8''notes%20%3Cb%3E.html"
    );
    assert_eq!(file.header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!((file.header("content-type"), file.header("etag").len()), ("text/html", 66));
}

#[tokio::test]
async fn a_media_type_that_is_none_becomes_octets() {
    let house = House::new();
    for claimed in ["", "nonsense", "text/html\r\nX-Evil: 1", "ü/ü"] {
        let run = run_with_file(&house, "f", claimed, "x").await;
        let file = house.get(&format!("{RUNS}/{run}/artifacts/write/f")).await;
        assert_eq!(
            (file.header("content-type"), file.header("x-evil")),
            ("application/octet-stream", ""),
            "{claimed}"
        );
    }
}

#[tokio::test]
async fn a_name_leads_nowhere_else() {
    let house = House::new();
    let run = run_with_file(&house, "good", "text/plain", "x").await;
    for path in [
        "write/..%2f..%2fetc%2fpasswd",
        "write/%2e%2e%2fgood",
        "write/%2fetc%2fpasswd",
        "ghost/good",
        "write/good%20",
        "write/%E2%80%AEgood",
        "write/%00",
    ] {
        house.get(&format!("{RUNS}/{run}/artifacts/{path}")).await.refused(404, "not_found");
    }
}
