//! Where nodes may connect to: the public internet, and what the operator names.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;

/// Which addresses nodes may connect to. The default: public ones only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    target: Target,
    /// None stands for every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Network(IpNet),
    /// In lower case, without the root's dot. Whatever it resolves to is allowed.
    Host(String),
}

/// Why a connection was not even tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked(pub(crate) String);

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Blocked {}

impl EgressPolicy {
    /// Reads networks, addresses and host names, each with an optional port, separated by commas:
    /// `10.0.0.0/8, internal.example, 127.0.0.1:8080, [fd00::1]:443`.
    ///
    /// # Errors
    /// A sentence for people that names the entry.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let rules = entries.map(Rule::parse).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// What can be told from a URL alone: scheme, credentials in it, and an address written as a literal.
    /// The parser of URLs has already turned `2130706433`, `0x7f.1` and `0177.0.0.1` into addresses.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), Blocked> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Blocked(format!("only http and https are allowed, not `{}`", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Blocked("a user name in a URL can pass for the host; send a header instead".into()));
        }
        let port = url.port_or_known_default();
        // `host_str` writes IPv6 in brackets.
        let literal = url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']').parse());
        match literal {
            None => Err(Blocked("the URL names no host".into())),
            Some(Ok(address)) if !self.allows_address(address, port) => Err(Blocked::address(address)),
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) => self.check_name(url.host_str().unwrap_or_default(), port),
        }
    }

    /// Names of this machine, which need not be known to whoever resolves names.
    fn check_name(&self, host: &str, port: Option<u16>) -> Result<(), Blocked> {
        let name = host.trim_end_matches('.');
        let is_local = name.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"));
        let loopbacks = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let is_allowed = self.allows_host(name, port)
            || loopbacks.iter().any(|address| self.allows_address(*address, port));
        if is_local && !is_allowed { Err(Blocked::address(loopbacks[0])) } else { Ok(()) }
    }

    /// Whether the operator named this host. `port` is none when it is one that no rule names.
    pub(crate) fn allows_host(&self, host: &str, port: Option<u16>) -> bool {
        let host = host.trim_end_matches('.');
        let named = |target: &Target| matches!(target, Target::Host(name) if name.eq_ignore_ascii_case(host));
        self.rules.iter().any(|rule| named(&rule.target) && rule.covers(port))
    }

    /// Whether an address is public, or in a network that the operator named.
    pub(crate) fn allows_address(&self, address: IpAddr, port: Option<u16>) -> bool {
        let address = address.to_canonical();
        let named =
            |target: &Target| matches!(target, Target::Network(network) if network.contains(&address));
        is_public(address) || self.rules.iter().any(|rule| named(&rule.target) && rule.covers(port))
    }

    /// Ports that some rule names.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.rules.iter().filter_map(|rule| rule.port).collect()
    }
}

impl Blocked {
    pub(crate) fn address(address: IpAddr) -> Self {
        Self(format!("{address} is not a public address; the operator can allow it by WINDLASS_EGRESS_ALLOW"))
    }
}

impl Rule {
    fn parse(entry: &str) -> Result<Self, String> {
        if let Some(network) = network(entry) {
            return Ok(Self { target: Target::Network(network), port: None });
        }
        let (target, port) = match entry.rsplit_once(':') {
            None => (entry, None),
            Some((target, port)) => match port.parse() {
                Ok(port) if port != 0 => (target, Some(port)),
                _ => return Err(format!("`{entry}`: `{port}` is no port")),
            },
        };
        if let Some(network) = network(target.trim_start_matches('[').trim_end_matches(']')) {
            return Ok(Self { target: Target::Network(network), port });
        }
        let host = target.trim_end_matches('.').to_ascii_lowercase();
        let is_name = host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
        // A name that ends in a number would be read as an address, badly spelled.
        let ends_in_number =
            host.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if !is_name || ends_in_number {
            return Err(format!("`{entry}` is neither a network such as 10.0.0.0/8 nor a host name"));
        }
        Ok(Self { target: Target::Host(host), port })
    }

    fn covers(&self, port: Option<u16>) -> bool {
        self.port.is_none() || self.port == port
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether an address belongs to the public internet, whatever it is wrapped in.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => match behind_nat64(address) {
            Some(inner) => is_public(inner.into()),
            None => {
                PUBLIC_V6.contains(&address)
                    && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
            }
        },
    }
}

/// The IPv4 address that a translator would connect to. Networks without IPv4 reach everything so.
fn behind_nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    NAT64.contains(&address).then(|| Ipv4Addr::new(a, b, c, d))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(a: u16, b: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits)
}

/// The special-purpose registry of IPv4 (RFC 6890 and later), and one address of a cloud's own.
const NOT_PUBLIC_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),        // this network; Linux connects 0.0.0.0 to itself
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // a host's own service on one cloud, in public space
    v4(169, 254, 0, 0, 16),   // link-local, with the clouds' metadata
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// Global unicast: loopback, link-local, unique local, multicast and IPv4-compatible lie outside.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 3);
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);
const NOT_PUBLIC_V6: &[Ipv6Net] = &[
    v6(0x2001, 0, 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &str, url: &str) -> bool {
        EgressPolicy::parse(policy).unwrap().check_url(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn every_spelling_of_an_address_that_is_not_public_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "127.0.0.1.",
            "0.0.0.0",
            "0",
            "10.0.0.1",
            "100.64.0.10",
            "169.254.169.254",
            "2852039166",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "①②⑦.0.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
            "[2001:db8::1]",
            "[2001:2::1]",
            "[3fff::1]",
            "[fd00::1]",
            "[fc00::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[100::1]",
            "[5f00::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
        ] {
            assert!(!check("", &format!("http://{host}/")), "{host}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass_the_first_check() {
        for host in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "[2606:4700::1111]",
            "[64:ff9b::101:101]",
            "[::ffff:1.1.1.1]",
            "example.com",
            "localhost.example",
        ] {
            assert!(check("", &format!("https://{host}/")), "{host}");
        }
    }

    #[test]
    fn other_schemes_and_user_names_are_refused() {
        for url in [
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "http://user@example.com/",
            "http://:pass@example.com/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1@example.com/",
        ] {
            assert!(!check("0.0.0.0/0,example.com", url), "{url}");
        }
    }

    #[test]
    fn an_operator_allows_networks_addresses_hosts_and_ports() {
        let policy = "10.0.0.0/8, 127.0.0.1:8080,[::1]:8080 ,fd00::/8,Internal.Example.:443,,other";
        for url in [
            "http://10.1.2.3/",
            "http://127.0.0.1:8080/",
            "http://[::ffff:127.0.0.1]:8080/",
            "http://[::1]:8080/",
            "http://[fd00::7]/",
            "http://localhost:8080/",
        ] {
            assert!(check(policy, url), "{url}");
        }
        for url in [
            "http://localhost/",
            "http://127.0.0.1/",
            "http://127.0.0.1:8081/",
            "http://127.0.0.2:8080/",
            "https://[::1]/",
        ] {
            assert!(!check(policy, url), "{url}");
        }
        let policy = EgressPolicy::parse(policy).unwrap();
        assert!(policy.allows_host("internal.example", Some(443)));
        assert!(policy.allows_host("INTERNAL.example.", Some(443)));
        assert!(policy.allows_host("other", None));
        assert!(!policy.allows_host("internal.example", None));
        assert!(!policy.allows_host("x.internal.example", Some(443)));
        assert_eq!(policy.ports(), BTreeSet::from([443, 8080]));
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for entry in
            ["10.0.0.0/33", "host:99999", "host:0", "*.example", "a b", "10.0.0.256", "http://x", "host/8"]
        {
            let sentence = EgressPolicy::parse(&format!("127.0.0.1,{entry}")).unwrap_err();
            assert!(sentence.contains(entry), "{sentence}");
        }
        assert_eq!(EgressPolicy::parse(" "), Ok(EgressPolicy::default()));
    }
}
