//! What web pages may do here. There is no authentication yet: a browser on this machine speaks with the rights of whoever
//! sits in front of it, and so would any page that it shows.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};

use crate::DoorOptions;
use crate::problem::{Code, Problem, Result};

pub(crate) fn check(options: &DoorOptions, request: &Request) -> Result<()> {
    let named = request.uri().authority().cloned();
    check_host(options, named.or_else(|| host(request.headers())).as_ref())?;
    check_origin(options, request)
}

/// Who owns a name can let it mean this machine, and a page of that name is then of our own origin for its browser. So names
/// must be known. An address is nobody's to change, and whoever sends no host is no browser.
fn check_host(options: &DoorOptions, host: Option<&Authority>) -> Result<()> {
    let (Some(hosts), Some(host)) = (&options.hosts, host) else { return Ok(()) };
    let name = host.host();
    let is_known = hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if is_known || name.eq_ignore_ascii_case("localhost") || is_address(name) {
        return Ok(());
    }
    Err(Problem::new(
        Code::HostNotAllowed,
        "This server is not known under the name that `Host` gives. Ask it by its address, or name the host in WINDLASS_HOSTS.",
    ))
}

fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    inner.parse::<std::net::IpAddr>().is_ok()
}

/// A page of another origin may not change anything, nor listen on a WebSocket, which CORS does not guard.
fn check_origin(options: &DoorOptions, request: &Request) -> Result<()> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let headers = request.headers();
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if reads && !headers.contains_key(header::UPGRADE) {
        return Ok(());
    }
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").and_then(|(_, host)| host.parse().ok());
    let is_own = own.is_some() && own == host(headers);
    if is_own || options.cors_origins.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(Problem::new(Code::OriginNotAllowed, "Pages of this origin may not do this."))
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}
