//! Distance between regions: every packet from one to another is held for half of a round trip, and then goes on.
//!
//! The router between the namespaces sends such packets into a TUN device; a process of this program takes them out,
//! waits, and gives them back. The kernels on both sides speak their own TCP; only time passes. Invariants: packets of
//! one way keep their order; if the relay dies nothing passes, rather than everything at once; how long a connection
//! takes is measured before, with the delay, just before it is taken away, and after. Deliberately absent: loss, jitter.

use crate::namespaces::{self, ip};
use crate::system::System;
use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// The subcommand that relays.
pub const RELAY: &str = "relay";
/// The TUN device in the router's namespace.
const DEVICE: &str = "wan0";
/// The routing table whose only way is that device.
const TABLE: &str = "100";
/// Opens the device as standard input and becomes the relay: what it takes is one `ioctl`, which safe Rust has not.
const OPENER: &str = "import fcntl, os, struct, sys\n\
                      tun = os.open('/dev/net/tun', os.O_RDWR)\n\
                      fcntl.ioctl(tun, 0x400454CA, struct.pack('16sH22x', sys.argv[1].encode(), 0x1001))\n\
                      os.dup2(tun, 0)\n\
                      os.execv(sys.argv[2], sys.argv[2:])\n";
/// Most packets on their way.
const PACKETS_MAX: usize = 65_536;
/// Largest packet, in bytes.
const PACKET_MAX_BYTES: usize = 65_536;
/// How long the device may take to be there.
const DEVICE_WITHIN: Duration = Duration::from_secs(5);
/// What a busy machine may add to a connection.
const BUSY: Duration = Duration::from_millis(250);
/// How long one connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Connections tried for one figure; the shortest counts, because a busy machine only adds to it.
const CONNECTIONS: u32 = 5;

/// A delay that is in force; the relay ends with it.
#[derive(Debug)]
pub struct Delayed {
    relay: Child,
    rules: Vec<Vec<String>>,
    ways: Vec<Way>,
    round_trip: Duration,
}

/// From a region's namespace to an open port in another region.
#[derive(Debug, Clone)]
struct Way {
    namespace: String,
    to: SocketAddr,
}

impl Way {
    /// How long a connection takes: one round trip, and what the machine adds.
    fn measure(&self) -> Result<Duration> {
        let way = self.clone();
        let measured = std::thread::spawn(move || -> Result<Duration> {
            let network = File::open(format!("/run/netns/{}", way.namespace))?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            let mut shortest = Duration::MAX;
            for _ in 0..CONNECTIONS {
                let begun = Instant::now();
                TcpStream::connect_timeout(&way.to, CONNECT_WITHIN)?;
                shortest = shortest.min(begun.elapsed());
            }
            Ok(shortest)
        });
        let measured = measured.join().ok().context("the measuring gave up")?;
        measured.with_context(|| format!("nothing from {} to {}", self.namespace, self.to))
    }
}

/// Whether packets can be taken out of the kernel and given back here.
pub fn works() -> Result<()> {
    let name = format!("domchaos-tun-{}", std::process::id());
    ip(&["netns", "add", &name])?;
    let [enter, network] = namespaces::enter(&name);
    let opened = std::process::Command::new(enter)
        .args([network.as_str(), "python3", "-c", OPENER, DEVICE, "/bin/true"])
        .output();
    ip(&["netns", "del", &name])?;
    let opened = opened.context("cannot run nsenter")?;
    if !opened.status.success() {
        bail!("{}", String::from_utf8_lossy(&opened.stderr).trim());
    }
    Ok(())
}

/// Puts regions as far apart as a round trip says, and looks that they are.
pub async fn inject(system: &System, round_trip: Duration) -> Result<Delayed> {
    let ways = ways(system)?;
    let before = longest(&ways)?;
    if before >= round_trip / 2 {
        bail!("a connection takes {} ms without any delay", before.as_millis());
    }
    let one_way = round_trip / 2;
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let relay = Command::new("python3")
        .args(["-c", OPENER, DEVICE])
        .arg(own)
        .args([RELAY, "--one-way-ms", &one_way.as_millis().to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run python3")?;
    let mut delayed = Delayed { relay, rules: Vec::new(), ways, round_trip };
    let laid = delayed.lay(system.hosts.len()).await;
    if let Err(error) = laid.and_then(|()| delayed.is_there()) {
        delayed.remove().await?;
        return Err(error);
    }
    Ok(delayed)
}

impl Delayed {
    /// Leads what goes between regions through the device.
    async fn lay(&mut self, regions: usize) -> Result<()> {
        let begun = Instant::now();
        while ip(&["link", "set", DEVICE, "up", "txqueuelen", "10000"]).is_err() {
            if begun.elapsed() >= DEVICE_WITHIN {
                bail!("there is no {DEVICE}: the relay did not begin");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What comes back from the device has a region's address as its source.
        for device in ["all", DEVICE] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"), "0")
                .context("the router would drop what comes back")?;
        }
        ip(&["route", "replace", "default", "dev", DEVICE, "table", TABLE])?;
        for from in 1..=regions {
            for to in (1..=regions).filter(|to| *to != from) {
                let (here, there) = (format!("10.88.{from}.0/24"), format!("10.88.{to}.0/24"));
                let device = format!("region{from}");
                let rule = ["from", &here, "to", &there, "iif", &device, "lookup", TABLE];
                let rule: Vec<String> = rule.map(str::to_owned).to_vec();
                ip(&[&["rule", "add"][..], &words(&rule)].concat())?;
                self.rules.push(rule);
            }
        }
        Ok(())
    }

    /// A connection takes a round trip, and no more than a busy machine adds.
    fn is_there(&self) -> Result<()> {
        for way in &self.ways {
            let took = way.measure()?;
            if took < self.round_trip || took >= self.round_trip + BUSY {
                let (from, to) = (&way.namespace, way.to);
                bail!("a connection from {from} to {to} takes {} ms", took.as_millis());
            }
        }
        Ok(())
    }

    /// In words.
    pub fn describe(&self) -> Result<String> {
        let (wanted, found) = (self.round_trip.as_millis(), longest(&self.ways)?.as_millis());
        Ok(format!("{wanted} ms between all regions and back, measured {found} ms"))
    }

    /// Takes it away; it must have been there until now.
    pub async fn heal(mut self) -> Result<()> {
        let kept = self.is_there();
        let (ways, half) = (self.ways.clone(), self.round_trip / 2);
        self.remove().await?;
        kept.context("the delay was not kept up")?;
        let after = longest(&ways)?;
        if after >= half {
            bail!("a connection still takes {} ms", after.as_millis());
        }
        Ok(())
    }

    async fn remove(&mut self) -> Result<()> {
        for rule in self.rules.drain(..) {
            ip(&[&["rule", "del"][..], &words(&rule)].concat())?;
        }
        self.relay.kill().await.context("the relay does not end")
    }
}

fn words(rule: &[String]) -> Vec<&str> {
    rule.iter().map(String::as_str).collect()
}

/// From each region to the control plane's member in each other.
fn ways(system: &System) -> Result<Vec<Way>> {
    if system.hosts.is_empty() {
        bail!("the regions of this system share one host: nothing is between them");
    }
    let mut ways = Vec::new();
    for (region, namespace) in &system.hosts {
        for member in system.topology.etcd.iter().filter(|member| member.region != *region) {
            let address = member.client.address();
            let host = address.host().parse().context("a host is no address")?;
            let to = SocketAddr::new(host, address.port());
            ways.push(Way { namespace: namespace.clone(), to });
        }
    }
    Ok(ways)
}

fn longest(ways: &[Way]) -> Result<Duration> {
    let took = ways.iter().map(Way::measure).collect::<Result<Vec<_>>>()?;
    took.into_iter().max().context("there is nothing to measure")
}

/// The relay itself: standard input is the device. Ends when the device does.
pub fn relay(one_way: Duration) -> Result<()> {
    let device = std::io::stdin().as_fd().try_clone_to_owned().context("no device")?;
    let mut device = File::from(device);
    let mut back = device.try_clone().context("the device cannot be written")?;
    let (sender, packets) = sync_channel::<(Instant, Vec<u8>)>(PACKETS_MAX);
    let writer = std::thread::spawn(move || give_back(&packets, &mut back));
    let mut buffer = vec![0; PACKET_MAX_BYTES];
    loop {
        let length = device.read(&mut buffer).context("the device cannot be read")?;
        let packet = buffer.get(..length).unwrap_or_default().to_vec();
        match sender.try_send((Instant::now() + one_way, packet)) {
            // Full: lost, as in any queue of a network.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => break,
        }
    }
    writer.join().ok();
    Ok(())
}

/// Each packet at its time, in the order they came.
fn give_back(packets: &Receiver<(Instant, Vec<u8>)>, device: &mut File) {
    for (due, packet) in packets {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A packet that the kernel does not take is lost; its sender repeats it.
        device.write_all(&packet).ok();
    }
}
