//! Regions as hosts: each in a network namespace of its own, a router between them that drops what it is told to, one way.
//!
//! The program itself runs in the router's namespace, so that clients and the operator reach every region whatever is cut
//! between them, and so that nothing of the machine's own network is changed. Only iproute2 and nsenter are needed: a
//! policy rule of type `blackhole` from one network to another. Deliberately absent: time between them, which is
//! [`crate::delay`]'s.

use crate::system::System;
use anyhow::{Context, Result, bail};
use domicile_core::ids::RegionId;
use std::collections::BTreeMap;
use std::process::Command;

/// Names the router's namespace to the program that runs in it.
pub const ROUTER: &str = "DOMICILE_CHAOS_ROUTER";
/// How the names of all namespaces begin.
const PREFIX: &str = "domchaos";

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run `ip`")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}`: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

/// Whether namespaces can be made here and packets be dropped between two networks.
pub fn blackhole_works() -> Result<()> {
    let name = format!("{PREFIX}-probe-{}", std::process::id());
    ip(&["netns", "add", &name])?;
    let rule =
        ["-n", &name, "rule", "add", "from", "10.99.1.0/24", "to", "10.99.2.0/24", "blackhole"];
    let result = ip(&rule);
    ip(&["netns", "del", &name])?;
    result
}

/// The beginning of a command that runs in a namespace.
pub fn enter(namespace: &str) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net=/run/netns/{namespace}")]
}

/// Runs this program again in a router's namespace, and removes every namespace after it.
pub fn in_router() -> Result<u8> {
    let router = format!("{PREFIX}-{}", std::process::id());
    ip(&["netns", "add", &router])?;
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let [program, network] = enter(&router);
    let status = ip(&["-n", &router, "link", "set", "lo", "up"]).and_then(|()| {
        let mut again = Command::new(program);
        again.arg(network).arg(own).args(std::env::args_os().skip(1)).env(ROUTER, &router);
        again.status().context("cannot run this program in a namespace")
    });
    for name in namespaces(&router)? {
        ip(&["netns", "del", &name])?;
    }
    Ok(u8::try_from(status?.code().unwrap_or(2)).unwrap_or(2))
}

/// The router's namespace and those of its regions.
fn namespaces(router: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir("/run/netns").context("cannot list the namespaces")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let region = format!("{router}-");
    Ok(names.filter(|name| name == router || name.starts_with(&region)).collect())
}

/// Makes a host for each region, in the order given: `10.88.<number>.10`. Returns their namespaces.
pub fn hosts(regions: &[RegionId]) -> Result<BTreeMap<RegionId, String>> {
    let router = std::env::var(ROUTER).context("regions as hosts need `--netns`")?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("the router cannot forward")?;
    let mut hosts = BTreeMap::new();
    for (number, region) in (1..=u8::MAX).zip(regions) {
        let name = format!("{router}-{region}");
        let (here, gateway) = (veth(number), format!("10.88.{number}.1"));
        if !namespaces(&router)?.contains(&name) {
            ip(&["netns", "add", &name])?;
            ip(&["link", "add", &here, "type", "veth", "peer", "name", "up0", "netns", &name])?;
            ip(&["addr", "add", &format!("{gateway}/24"), "dev", &here])?;
            ip(&["link", "set", &here, "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("10.88.{number}.10/24"), "dev", "up0"])?;
            ip(&["-n", &name, "link", "set", "up0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "route", "add", "default", "via", &gateway])?;
        }
        hosts.insert(region.clone(), name);
    }
    Ok(hosts)
}

fn veth(number: u8) -> String {
    format!("region{number}")
}

/// Two regions of which the second hears nothing of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneWay {
    from: u8,
    to: u8,
}

impl OneWay {
    /// The regions' numbers, by the order of the document.
    pub fn new(system: &System, from: &str, to: &str) -> Result<Self> {
        if system.hosts.is_empty() {
            bail!("the regions of this system share one host: nothing can be cut between them");
        }
        let number = |name: &str| {
            let all = &system.topology.regions;
            let place = all.iter().position(|region| region.id.as_str() == name);
            let number = place.and_then(|place| u8::try_from(place + 1).ok());
            number.with_context(|| format!("no region is `{name}`"))
        };
        Ok(Self { from: number(from)?, to: number(to)? })
    }

    fn rule(&self, verb: &str) -> Result<()> {
        let (from, to) = (format!("10.88.{}.0/24", self.from), format!("10.88.{}.0/24", self.to));
        ip(&["rule", verb, "from", &from, "to", &to, "blackhole"])
    }

    /// Whether the router would forward what goes this way.
    pub fn passes(&self) -> bool {
        let (from, to) = (format!("10.88.{}.10", self.from), format!("10.88.{}.10", self.to));
        ip(&["route", "get", &to, "from", &from, "iif", &veth(self.from)]).is_ok()
    }

    /// Drops it.
    pub fn cut(&self) -> Result<()> {
        self.rule("add")
    }

    /// Lets it pass again.
    pub fn join(&self) -> Result<()> {
        self.rule("del")
    }
}
