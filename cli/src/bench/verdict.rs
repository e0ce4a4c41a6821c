//! `Verdict`: what held a transfer up, by what both ends measured.
//!
//! A rule looks at one thing, and the first that fits speaks: a full link, CPUs that are all busy, a thread that is always
//! busy, a disk that takes no more, and last what TCP says of the way between. What was not measured is not claimed. The
//! words say what was measured.

use serde::Serialize;

use super::link::Link;
use super::side::{Side, Tcp};
use super::threads::ThreadTime;

/// What holds a transfer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Bottleneck {
    #[serde(rename = "network")]
    Network,
    #[serde(rename = "shard CPU")]
    ShardCpu,
    #[serde(rename = "hashing")]
    Hashing,
    #[serde(rename = "disk")]
    Disk,
    #[serde(rename = "peer")]
    Peer,
    /// Nothing tells the two apart.
    #[serde(rename = "network or peer")]
    NetworkOrPeer,
}

impl Bottleneck {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::ShardCpu => "shard CPU",
            Self::Hashing => "hashing",
            Self::Disk => "disk",
            Self::Peer => "peer",
            Self::NetworkOrPeer => "network or peer",
        }
    }
}

/// What held a transfer up, and what shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) bottleneck: Bottleneck,
    pub(crate) why: String,
}

/// From here on something is as good as always busy. The rest of a core goes to what nobody counts: interrupts, the
/// hypervisor, and the moments in which it waits for what is on its way.
const FULL: f64 = 0.9;

/// From here on a limit of TCP is the rule and not the exception.
const OFTEN: f64 = 0.5;

/// What stands around a transfer, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Around<'a> {
    /// Whether the sender uses the receiver's CPUs.
    pub(crate) shares_machine: bool,
    pub(crate) link: Option<&'a Link>,
    /// What the receiver's disk takes from writes alone, in decimal gigabytes per second.
    pub(crate) disk_gb_per_s: Option<f64>,
}

/// What held the transfer up.
pub(crate) fn judge(receiver: &Side, sender: Option<&Side>, around: Around<'_>) -> Verdict {
    let rules = [
        full_link(receiver, around.link),
        full_machines(receiver, sender, around.shares_machine),
        busy_threads(receiver, sender),
        full_disk(receiver, around.disk_gb_per_s),
        sender.and_then(|sender| way_between(receiver, sender)),
        awaited_disk(receiver),
    ];
    rules.into_iter().flatten().next().unwrap_or_else(|| nothing_known(receiver))
}

fn full_link(receiver: &Side, link: Option<&Link>) -> Option<Verdict> {
    let part = receiver.gb_per_s() / link?.payload_gb_per_s();
    let why = format!("the link {} is {} full", link?.interface, percent(part));
    (part >= FULL).then_some(Verdict { bottleneck: Bottleneck::Network, why })
}

/// One thread of a kind that is always busy holds up what it carries.
fn busy_threads(receiver: &Side, sender: Option<&Side>) -> Option<Verdict> {
    if let Some(why) = busy_shard(receiver) {
        return Some(Verdict { bottleneck: Bottleneck::ShardCpu, why });
    }
    let (hashers, all) = (receiver.count(ThreadTime::is_hasher), receiver.busy(ThreadTime::is_hasher));
    let backlog = receiver.distribution("hash_backlog").map_or(0, |backlog| backlog.p50);
    if hashers > 0 && all >= FULL * hashers as f64 && backlog > 0 {
        let why = format!(
            "all {hashers} hash threads are busy, and {backlog} jobs wait when one more comes{}",
            and_writing(receiver)
        );
        return Some(Verdict { bottleneck: Bottleneck::Hashing, why });
    }
    Some(Verdict { bottleneck: Bottleneck::Peer, why: busy_shard(sender?)? })
}

/// What hash threads do besides, where anything is written.
fn and_writing(receiver: &Side) -> &'static str {
    match receiver.distribution("write_us") {
        Some(_) => "; hash threads also write what goes through the page cache",
        None => "",
    }
}

/// What shows that a shard is always on a CPU, or would be if it had one, or that others keep it from one.
fn busy_shard(side: &Side) -> Option<String> {
    let need = |thread: &ThreadTime| side.part(thread.cpu_s + thread.waited_s);
    let shards = side.threads.iter().filter(|thread| thread.is_shard());
    let busiest = shards.max_by(|a, b| need(a).total_cmp(&need(b)))?;
    let (cpu, waited) = (side.part(busiest.cpu_s), side.part(busiest.waited_s));
    let count = crate::units::count(side.count(ThreadTime::is_shard) as u64, "shard");
    let mut why =
        format!("the busiest of the {}'s {count} is on a CPU {} of the time", side.role, percent(cpu));
    if cpu < FULL {
        why += &format!(" and waits for one {}: others take them", percent(waited));
    }
    (cpu + waited >= FULL || waited >= OFTEN).then_some(why)
}

/// All CPUs of a machine are busy: whoever takes most of them holds the rest up.
fn full_machines(receiver: &Side, sender: Option<&Side>, shares_machine: bool) -> Option<Verdict> {
    let used = |side: &Side| side.part(side.cpu_s);
    let theirs = sender.filter(|_| shares_machine).map_or(0.0, used);
    let cpus = receiver.host.cpus as f64;
    if used(receiver) + theirs >= FULL * cpus {
        let (shards, hashing) = (receiver.busy(ThreadTime::is_shard), receiver.busy(ThreadTime::is_hasher));
        let kinds =
            [(Bottleneck::ShardCpu, shards), (Bottleneck::Hashing, hashing), (Bottleneck::Peer, theirs)];
        let bottleneck = kinds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(kind, _)| kind)?;
        let both = if shares_machine { format!(", the sender {theirs:.2}") } else { String::new() };
        let why = format!(
            "all {cpus} CPUs are busy: the receiver's shards take {shards:.2} of them, hashing {hashing:.2}{both}{}",
            and_writing(receiver)
        );
        return Some(Verdict { bottleneck, why });
    }
    let sender = sender.filter(|_| !shares_machine)?;
    let why = format!("the sender's CPUs are busy: {:.2} of {}", used(sender), sender.host.cpus);
    (used(sender) >= FULL * sender.host.cpus as f64).then_some(Verdict { bottleneck: Bottleneck::Peer, why })
}

/// Pieces are written as fast as the disk takes them.
fn full_disk(receiver: &Side, disk_gb_per_s: Option<f64>) -> Option<Verdict> {
    let alone = disk_gb_per_s.filter(|&alone| alone > 0.0)?;
    let (_, writes) = pieces_being_written(receiver)?;
    let part = receiver.gb_per_s() / alone;
    let why = format!("{writes}, which is {} of what the disk takes from writes alone", percent(part));
    (part >= FULL).then_some(Verdict { bottleneck: Bottleneck::Disk, why })
}

/// Pieces are always being written, and requests run out meanwhile: the pieces hold the memory for more. Without the
/// second, the first says only that the disk answers late, and many writes are under way at a time.
fn awaited_disk(receiver: &Side) -> Option<Verdict> {
    let (under_way, writes) = pieces_being_written(receiver)?;
    let why = format!("{writes}, and requests run out meanwhile");
    (under_way >= FULL && requests_waiting(receiver) == 0)
        .then_some(Verdict { bottleneck: Bottleneck::Disk, why })
}

/// How many, and in words.
fn pieces_being_written(receiver: &Side) -> Option<(f64, String)> {
    let writes = receiver.distribution("write_us")?;
    let under_way = receiver.part(writes.mean * writes.count as f64 / 1e6);
    let words = format!(
        "{under_way:.1} pieces are being written at any moment, each for {:.1} ms at the median",
        writes.p50 as f64 / 1000.0
    );
    Some((under_way, words))
}

/// Of the receiver, at the median.
fn requests_waiting(receiver: &Side) -> u64 {
    receiver.distribution("requests_outstanding").map_or(0, |found| found.p50)
}

/// No CPU, no disk: the sender's TCP knows what it waits for.
fn way_between(receiver: &Side, sender: &Side) -> Option<Verdict> {
    let Tcp { busy, rwnd_limited, sndbuf_limited, retransmits, rtt_us, .. } = sender.tcp.clone()?;
    let of_busy = |part: f64| if busy > 0.0 { part / busy } else { 0.0 };
    let asked = requests_waiting(receiver);
    let network = |why: String| Some(Verdict { bottleneck: Bottleneck::Network, why });
    let shard = receiver.busy(ThreadTime::is_shard);
    if of_busy(rwnd_limited) >= OFTEN && shard >= OFTEN {
        let why = format!(
            "the receive window is full {} of the time that the sender has something to send, and the receiver's shards are on a \
             CPU {} of the time",
            percent(of_busy(rwnd_limited)),
            percent(shard)
        );
        return Some(Verdict { bottleneck: Bottleneck::ShardCpu, why });
    }
    if of_busy(rwnd_limited) >= OFTEN {
        return network(format!(
            "the receive window is in the way {} of the time that the sender has something to send (see net.ipv4.tcp_rmem)",
            percent(of_busy(rwnd_limited))
        ));
    }
    if of_busy(sndbuf_limited) >= OFTEN {
        return network(format!(
            "the send buffer is too small {} of the time that the sender has something to send (see net.ipv4.tcp_wmem)",
            percent(of_busy(sndbuf_limited))
        ));
    }
    if busy >= FULL {
        return network(format!(
            "the sender always has something on its way and no CPU is short: the path sets the pace ({} ms round trip, \
             {retransmits} retransmits)",
            f64::from(rtt_us) / 1000.0
        ));
    }
    if asked > 0 {
        let why = format!(
            "{asked} requests wait for the sender at the median, but it has nothing on its way {} of the time",
            percent(1.0 - busy)
        );
        return Some(Verdict { bottleneck: Bottleneck::Peer, why });
    }
    if let Some(disk) = awaited_disk(receiver) {
        return Some(disk);
    }
    network(format!(
        "requests run out before their answers come: the round trip of {} ms is not covered",
        f64::from(rtt_us) / 1000.0
    ))
}

fn nothing_known(receiver: &Side) -> Verdict {
    let asked = requests_waiting(receiver);
    let why = format!(
        "the receiver's threads sleep while {asked} requests wait; the sender's counters would tell more"
    );
    Verdict { bottleneck: Bottleneck::NetworkOrPeer, why }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::side::Named;
    use crate::bench::side::tests::side;

    /// All that is known is whether they share a machine, and the link.
    fn judged(receiver: &Side, sender: Option<&Side>, shares_machine: bool, link: Option<&Link>) -> Verdict {
        judge(receiver, sender, Around { shares_machine, link, disk_gb_per_s: None })
    }

    fn verdict(receiver: &Side, sender: Option<&Side>, shares: bool, link: Option<&Link>) -> Bottleneck {
        judged(receiver, sender, shares, link).bottleneck
    }

    fn receiver(shard: f64, hash: f64) -> Side {
        side("receiver", 10, &[("ringtide-0", shard), ("ringtide-hash-0", hash)])
    }

    fn sender(shard: f64, tcp: Tcp) -> Side {
        Side { tcp: Some(tcp), ..side("sender", 10, &[("ringtide-0", shard)]) }
    }

    fn named(name: &str, p50: u64, count: u64) -> Named {
        let mean = p50 as f64;
        Named { name: name.to_owned(), count, mean, p50, p90: p50, p99: p50, p99_9: p50, max: p50 }
    }

    #[test]
    fn a_full_link_comes_first() {
        let link = |mbit_per_s| Link { interface: "eth0".to_owned(), mbit_per_s, mtu: 1500, is_ipv6: false };
        assert_eq!(verdict(&receiver(0.95, 0.1), None, false, Some(&link(8_500))), Bottleneck::Network);
        assert_eq!(verdict(&receiver(0.95, 0.1), None, false, Some(&link(10_000))), Bottleneck::ShardCpu);
    }

    #[test]
    fn a_busy_shard_is_named_and_so_is_the_sender_s() {
        let busy = judged(&receiver(0.93, 0.2), None, false, None);
        assert_eq!(busy.bottleneck, Bottleneck::ShardCpu);
        assert_eq!(busy.why, "the busiest of the receiver's 1 shard is on a CPU 93 % of the time");
        assert_eq!(
            verdict(&receiver(0.5, 0.2), Some(&sender(0.95, Tcp::default())), false, None),
            Bottleneck::Peer
        );
        let mut starved = receiver(0.1, 0.1);
        starved.threads[0].waited_s = 5.5;
        assert_eq!(verdict(&starved, None, false, None), Bottleneck::ShardCpu);
        let mut starved = receiver(0.4, 0.1);
        starved.threads[0].waited_s = 5.5;
        let found = judged(&starved, None, false, None);
        assert_eq!(found.bottleneck, Bottleneck::ShardCpu);
        assert!(
            found.why.ends_with("on a CPU 40 % of the time and waits for one 55 %: others take them"),
            "{found:?}"
        );
    }

    #[test]
    fn busy_hashers_are_named_only_with_a_backlog() {
        let mut hashing = receiver(0.4, 0.97);
        assert_eq!(verdict(&hashing, None, false, None), Bottleneck::NetworkOrPeer);
        hashing.distributions.push(named("hash_backlog", 3, 100));
        assert_eq!(verdict(&hashing, None, false, None), Bottleneck::Hashing);
    }

    #[test]
    fn full_machines_name_who_takes_most() {
        let mut receiver = receiver(0.8, 0.3);
        receiver.host.cpus = 2;
        let sender = sender(0.85, Tcp::default());
        let found = judged(&receiver, Some(&sender), true, None);
        assert_eq!(found.bottleneck, Bottleneck::Peer);
        assert_eq!(
            found.why,
            "all 2 CPUs are busy: the receiver's shards take 0.80 of them, hashing 0.30, the sender 0.85"
        );
        // On machines of their own none is full.
        let idle = Tcp { busy: 0.2, ..Tcp::default() };
        assert_eq!(
            verdict(&receiver, Some(&Side { tcp: Some(idle), ..sender }), false, None),
            Bottleneck::Network
        );
    }

    /// 2,500 pieces of 8 ms each in 10 s: two at any moment.
    fn writing() -> Side {
        let mut writing = receiver(0.2, 0.2);
        writing.distributions.push(named("write_us", 8_000, 2_500));
        writing
    }

    #[test]
    fn a_disk_that_takes_no_more_is_named() {
        let lazy = sender(0.2, Tcp { busy: 0.3, ..Tcp::default() });
        let mut writing = writing();
        writing.distributions.push(named("requests_outstanding", 200, 1000));
        let of_disk = |gb_per_s| {
            judge(&writing, Some(&lazy), Around { disk_gb_per_s: Some(gb_per_s), ..Around::default() })
        };
        let full = of_disk(1.1);
        assert_eq!(full.bottleneck, Bottleneck::Disk);
        assert!(full.why.ends_with("which is 91 % of what the disk takes from writes alone"), "{full:?}");
        // Writes of that length overlap: they hold nothing up while the disk could take more.
        assert_eq!(of_disk(1.2).bottleneck, Bottleneck::Peer);
        assert_eq!(verdict(&writing, Some(&lazy), false, None), Bottleneck::Peer);
    }

    #[test]
    fn a_disk_is_waited_for_where_requests_run_out() {
        let mut slow = writing();
        let dry = sender(0.2, Tcp { busy: 0.3, ..Tcp::default() });
        assert_eq!(verdict(&slow, None, false, None), Bottleneck::Disk);
        assert_eq!(verdict(&slow, Some(&dry), false, None), Bottleneck::Disk);
        let path = sender(0.2, Tcp { busy: 0.95, ..Tcp::default() });
        assert_eq!(verdict(&slow, Some(&path), false, None), Bottleneck::Network, "TCP knows better");
        slow.distributions.push(named("requests_outstanding", 200, 1000));
        assert_eq!(verdict(&slow, None, false, None), Bottleneck::NetworkOrPeer);
        slow.distributions.pop();
        slow.distributions[0].count = 250;
        assert_eq!(verdict(&slow, None, false, None), Bottleneck::NetworkOrPeer);
    }

    #[test]
    fn hash_threads_are_said_to_write_where_anything_is_written() {
        let mut hashing = receiver(0.4, 0.97);
        hashing.distributions.push(named("hash_backlog", 3, 100));
        assert!(judged(&hashing, None, false, None).why.ends_with("when one more comes"));
        hashing.distributions.push(named("write_us", 80, 100));
        assert!(
            judged(&hashing, None, false, None).why.ends_with("also write what goes through the page cache")
        );
    }

    #[test]
    fn tcp_tells_windows_paths_and_lazy_senders_apart() {
        let mut receiver = receiver(0.2, 0.2);
        receiver.distributions.push(named("requests_outstanding", 200, 1000));
        let of_tcp = |tcp: Tcp| judged(&receiver, Some(&sender(0.2, tcp)), false, None);
        let window = of_tcp(Tcp { busy: 0.9, rwnd_limited: 0.8, ..Tcp::default() });
        assert!(window.bottleneck == Bottleneck::Network && window.why.contains("tcp_rmem"), "{window:?}");
        let sender_waits = sender(0.2, Tcp { busy: 0.9, rwnd_limited: 0.8, ..Tcp::default() });
        let slow = judged(&self::receiver(0.8, 0.1), Some(&sender_waits), false, None);
        assert!(
            slow.bottleneck == Bottleneck::ShardCpu && slow.why.contains("window is full 89 %"),
            "{slow:?}"
        );
        let buffer = of_tcp(Tcp { busy: 0.9, sndbuf_limited: 0.8, ..Tcp::default() });
        assert!(buffer.bottleneck == Bottleneck::Network && buffer.why.contains("tcp_wmem"), "{buffer:?}");
        let path = of_tcp(Tcp { busy: 0.99, rtt_us: 10_000, ..Tcp::default() });
        assert!(path.bottleneck == Bottleneck::Network && path.why.contains("10 ms round trip"), "{path:?}");
        let lazy = of_tcp(Tcp { busy: 0.3, ..Tcp::default() });
        assert!(lazy.bottleneck == Bottleneck::Peer && lazy.why.contains("200 requests wait"), "{lazy:?}");
        receiver.distributions.clear();
        let dry = judged(&receiver, Some(&sender(0.2, Tcp { busy: 0.3, ..Tcp::default() })), false, None);
        assert!(dry.bottleneck == Bottleneck::Network && dry.why.contains("requests run out"), "{dry:?}");
    }
}
