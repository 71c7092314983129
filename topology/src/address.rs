//! Network addresses of the topology: `host:port` and `https://host:port`.
//!
//! Invariants: the host is an IPv4 address, a bracketed IPv6 address or a lower-case DNS name; the port
//! is 1–65535 and written without leading zeros, so that equal addresses have equal texts.
//! Deliberately absent: plain `http`, user information, paths. Every link between nodes is mutual TLS.

use crate::limits::MAX_HOST_BYTES;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAddress {
    /// There is no `:port` at the end, or it is not a number from 1 to 65535.
    #[error("`{0}` has no port from 1 to 65535 after the last colon")]
    Port(String),
    /// The host is none of the accepted forms.
    #[error("`{0}` has no valid host (IPv4, [IPv6] or a lower-case DNS name)")]
    Host(String),
    /// It is not an `https` URL, or has more than host and port.
    #[error("`{0}` is not of the form https://host:port")]
    Url(String),
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Parses `host:port`.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let shown = || text.chars().take(80).collect::<String>();
        let (host, port_text) =
            text.rsplit_once(':').ok_or_else(|| InvalidAddress::Port(shown()))?;
        let port: u16 = port_text
            .parse()
            .ok()
            .filter(|port: &u16| *port > 0 && port.to_string() == port_text)
            .ok_or_else(|| InvalidAddress::Port(shown()))?;
        if is_host(host) {
            Ok(Self { host: host.to_owned(), port })
        } else {
            Err(InvalidAddress::Host(shown()))
        }
    }

    /// The host without brackets, as a connector or a certificate check takes it.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// `https://host:port`, without a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceUrl(Address);

impl ServiceUrl {
    /// Parses `https://host:port`.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| InvalidAddress::Url(text.chars().take(80).collect()))?;
        Address::parse(rest).map(Self)
    }

    /// Host and port.
    pub fn address(&self) -> &Address {
        &self.0
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == inner);
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only would be read as a (malformed) IPv4 address by others.
    let last_is_name =
        host.rsplit('.').next().is_some_and(|l| l.bytes().any(|b| !b.is_ascii_digit()));
    host.len() <= MAX_HOST_BYTES && host.split('.').all(is_label) && last_is_name
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for ServiceUrl {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl From<ServiceUrl> for String {
    fn from(url: ServiceUrl) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        for good in ["127.0.0.1:7110", "[::1]:1", "db.mt-1.example:5432", "localhost:65535"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "localhost",
            "localhost:",
            ":7110",
            "localhost:0",
            "localhost:65536",
            "localhost:07",
            "localhost:+7",
            "Local:1",
            "a_b:1",
            "-a:1",
            "1.2.3:1",
            "256.1.1.1:1",
            "[::1:1",
            "::1:1",
            "[0:0:0:0:0:0:0:1]:1",
            "a b:1",
            "a/b:1",
            "user@a:1",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn urls_are_https_without_a_path() {
        let url = ServiceUrl::parse("https://[::1]:7101").unwrap();
        assert_eq!((url.address().host(), url.address().port()), ("::1", 7101));
        for bad in
            ["http://a:1", "https://a", "https://a:1/", "https://a:1/x", "HTTPS://a:1", "a:1"]
        {
            assert!(ServiceUrl::parse(bad).is_err(), "{bad} must be refused");
        }
    }
}
