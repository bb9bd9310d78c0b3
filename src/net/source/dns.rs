//! Names that lead to others, resolved again and again, as the addresses behind them change.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use libp2p::multiaddr::Multiaddr;
use tokio::time::{Instant, sleep, timeout_at};

use super::place::split_port;
use super::{News, Place, Source};
use crate::net::Transport;
use crate::types::limits;

/// Names are resolved again after this.
const LOOK_PAUSE: Duration = Duration::from_secs(3);
/// All names are resolved within this time, side by side, or not at all.
const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// A name to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsName {
    /// A host, and the TCP port at each of its addresses.
    Host {
        /// Asked for A and AAAA.
        host: String,
        /// The same at all of them.
        port: u16,
    },
    /// A service: `_service._proto.name`, asked for SRV, which tells hosts and ports.
    Service(String),
}

/// Text that names nothing to ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name to resolve: expected host:port, or _service._proto.name for SRV records")]
pub struct NotADnsName(String);

impl FromStr for DnsName {
    type Err = NotADnsName;

    fn from_str(text: &str) -> Result<DnsName, NotADnsName> {
        let is_name = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=253).contains(&name.len()) && name.bytes().all(plain)
        };
        match split_port(text) {
            Some((host, port)) if is_name(host) || host.parse::<IpAddr>().is_ok() => {
                Ok(DnsName::Host { host: host.to_owned(), port })
            }
            None if is_name(text) && text.starts_with('_') && text.contains("._") => {
                Ok(DnsName::Service(text.to_owned()))
            }
            _ => Err(NotADnsName(text.to_owned())),
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsName::Host { host, port } => write!(f, "{host}:{port}"),
            DnsName::Service(name) => f.write_str(name),
        }
    }
}

/// The names, and what they led to last.
pub(super) struct Names {
    /// Each with what it led to when it was last resolved.
    names: Vec<(DnsName, Vec<Place>)>,
    told: Option<News>,
}

impl Names {
    pub fn new(names: Vec<DnsName>) -> Names {
        Names { names: names.into_iter().map(|name| (name, Vec::new())).collect(), told: None }
    }

    async fn resolve(&mut self) -> News {
        // Anew each time: the system's own configuration may have changed as well.
        match resolver() {
            Ok(resolver) => self.resolve_by(&resolver).await,
            Err(error) => News { finds: self.gather(), trouble: Some(error) },
        }
    }

    async fn resolve_by(&mut self, resolver: &TokioResolver) -> News {
        let until = Instant::now() + RESOLVE_MAX;
        let answers = join_all(self.names.iter().map(|(name, _)| places(resolver, name, until))).await;
        let trouble = self.learn(answers);
        News { finds: self.gather(), trouble }
    }

    /// What each name led to. Where that is not known, what it led to last may be there still: a name server that is down
    /// moves nobody.
    fn learn(&mut self, answers: Vec<Result<Vec<Place>, String>>) -> Option<String> {
        let mut troubles = Vec::new();
        for ((name, led_to), answer) in self.names.iter_mut().zip(answers) {
            match answer {
                Ok(places) => *led_to = places,
                Err(error) => troubles.push(format!("{name}: {error}")),
            }
        }
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// In one order: servers turn theirs around each time.
    fn gather(&self) -> Vec<Place> {
        let mut finds: Vec<Place> = self.names.iter().flat_map(|(_, led_to)| led_to).cloned().collect();
        finds.sort();
        finds.dedup();
        finds
    }
}

fn resolver() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| format!("no resolver: {error}"))?;
    let options = builder.options_mut();
    (options.cache_size, options.attempts, options.timeout) = (0, 1, RESOLVE_MAX);
    builder.build().map_err(|error| format!("no resolver: {error}"))
}

async fn places(resolver: &TokioResolver, name: &DnsName, until: Instant) -> Result<Vec<Place>, String> {
    match name {
        DnsName::Host { host, port } => {
            let addresses = in_time(until, addresses(resolver, host)).await?;
            Ok(addresses.into_iter().map(|ip| place(ip, *port)).collect())
        }
        DnsName::Service(service) => {
            let asked = async { resolver.srv_lookup(service.as_str()).await.map_err(|error| error.to_string()) };
            let answer = in_time(until, asked).await?;
            let targets = answer.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) if srv.port != 0 => Some((srv.target.to_utf8(), srv.port)),
                _ => None,
            });
            let targets = targets.take(limits::SOURCE_ADDRESSES_MAX).map(|(host, port)| async move {
                let addresses = in_time(until, addresses(resolver, &host)).await;
                let places = addresses.map(|all| all.into_iter().map(|ip| place(ip, port)).collect());
                places.map_err(|error| format!("{host}: {error}"))
            });
            of_all_targets(join_all(targets).await)
        }
    }
}

/// One host that is gone, or late, is no reason to forget the others.
fn of_all_targets(targets: Vec<Result<Vec<Place>, String>>) -> Result<Vec<Place>, String> {
    let (mut places, mut trouble) = (Vec::new(), None);
    for target in targets {
        match target {
            Ok(found) => places.extend(found),
            Err(error) => trouble = Some(error),
        }
    }
    trouble.filter(|_| places.is_empty()).map_or(Ok(places), Err)
}

async fn in_time<T>(until: Instant, answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer within {} s", RESOLVE_MAX.as_secs()));
    timeout_at(until, answer).await.unwrap_or_else(|_| late())
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, String> {
    let found = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
    Ok(found.iter().take(limits::SOURCE_ADDRESSES_MAX).collect())
}

fn place(ip: IpAddr, port: u16) -> Place {
    let address: Multiaddr = Transport::Tcp.multiaddress((ip, port).into());
    Place::at(address)
}

impl Source for Names {
    const NAME: &'static str = "dns";

    async fn next(&mut self) -> News {
        loop {
            if self.told.is_some() {
                sleep(LOOK_PAUSE).await;
            }
            let news = self.resolve().await;
            if self.told.as_ref() != Some(&news) {
                self.told = Some(news.clone());
                return news;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::{Arc, Mutex};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;
    use tokio::task::JoinHandle;

    use super::*;

    #[test]
    fn names_are_hosts_or_services() {
        let host = DnsName::Host { host: "synod.default.svc".to_owned(), port: 7271 };
        assert_eq!("synod.default.svc:7271".parse(), Ok(host));
        let service = "_mesh._tcp.synod.default.svc";
        assert_eq!(service.parse(), Ok(DnsName::Service(service.to_owned())));
        for text in ["", "synod", "synod.default", "_mesh", "a b:1", "a:0", "a/b:1", "_mesh._tcp.a:1:2"] {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_host_leads_to_its_addresses() {
        let name = DnsName::Host { host: "127.0.0.1".to_owned(), port: 7 };
        let news = Names::new(vec![name]).next().await;
        assert_eq!(news.finds.iter().map(Place::to_string).collect::<Vec<_>>(), ["/ip4/127.0.0.1/tcp/7"]);
    }

    /// Each name keeps what it led to for itself, however it is with the others.
    #[test]
    fn one_name_in_trouble_keeps_no_old_addresses_of_another() {
        let at = |last| Place::at(format!("/ip4/10.0.0.{last}/tcp/7").parse().unwrap());
        let mut names = Names::new(vec!["a:7".parse().unwrap(), "b:7".parse().unwrap()]);
        assert_eq!(names.learn(vec![Ok(vec![at(1)]), Ok(vec![at(9)])]), None);
        let gone = || Err("no such name".to_owned());
        for last in 2..5 {
            assert_eq!(names.learn(vec![Ok(vec![at(last)]), gone()]), Some("b:7: no such name".to_owned()));
            assert_eq!(names.gather(), [at(last), at(9)], "where b was, and where a is now");
        }
        assert_eq!(names.learn(vec![Ok(Vec::new()), Ok(vec![at(9), at(9)])]), None);
        assert_eq!(names.gather(), [at(9)]);
    }

    #[tokio::test]
    async fn what_comes_in_time_counts() {
        let at = |last| Place::at(format!("/ip4/10.0.0.{last}/tcp/7").parse().unwrap());
        // It is over already: what is there is taken, and nothing is waited for.
        let until = Instant::now();
        let answer = |last| async move {
            match last {
                2 => std::future::pending().await,
                3 => Err("no such host".to_owned()),
                _ => Ok(vec![at(last)]),
            }
        };
        let targets = |all: &[i32]| join_all(all.iter().map(|last| in_time(until, answer(*last))).collect::<Vec<_>>());
        assert_eq!(of_all_targets(targets(&[1, 2, 3, 4]).await), Ok(vec![at(1), at(4)]));
        assert_eq!(of_all_targets(targets(&[2]).await), Err("no answer within 2 s".to_owned()));
    }

    /// A name server on loopback that answers from a table.
    struct NameServer {
        table: Arc<Mutex<Vec<Record>>>,
        resolver: TokioResolver,
        task: JoinHandle<()>,
    }

    impl NameServer {
        async fn start() -> NameServer {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut connection = ConnectionConfig::udp();
            connection.port = socket.local_addr().unwrap().port();
            let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
            let config = ResolverConfig::from_name_servers(vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            (builder.options_mut().cache_size, builder.options_mut().use_hosts_file) = (0, ResolveHosts::Never);
            let table: Arc<Mutex<Vec<Record>>> = Arc::default();
            let task = tokio::spawn(serve(socket, table.clone()));
            NameServer { table, resolver: builder.build().unwrap(), task }
        }

        /// What it knows from now on.
        fn knows(&self, records: &[(&str, RData)]) {
            let record = |(name, data): &(&str, RData)| Record::from_rdata(fqdn(name), 1, data.clone());
            *self.table.lock().unwrap() = records.iter().map(record).collect();
        }
    }

    impl Drop for NameServer {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn serve(socket: UdpSocket, table: Arc<Mutex<Vec<Record>>>) {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            let question = Message::from_vec(&bytes[..length]).unwrap();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            let asked = question.queries[0].clone();
            let known = table.lock().unwrap().clone();
            let is_asked = |record: &Record| record.name == *asked.name() && record.record_type() == asked.query_type();
            if !known.iter().any(|record| record.name == *asked.name()) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.answers = known.into_iter().filter(is_asked).collect();
            answer.queries = vec![asked];
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }

    fn fqdn(name: &str) -> Name {
        Name::from_ascii(format!("{name}.")).unwrap()
    }

    #[tokio::test]
    async fn hosts_and_services_are_resolved_again_as_they_change() {
        let server = NameServer::start().await;
        let a = |last| RData::A(A(Ipv4Addr::new(10, 0, 0, last)));
        let aaaa = |last| RData::AAAA(AAAA(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)));
        let srv = |port, target| RData::SRV(SRV::new(0, 0, port, fqdn(target)));
        let service = "_mesh._tcp.shop.svc";
        let mut names = Names::new(vec!["shop.svc:7271".parse().unwrap(), service.parse().unwrap()]);
        let mut told = async || {
            let news = names.resolve_by(&server.resolver).await;
            (news.finds.iter().map(Place::to_string).collect::<Vec<_>>(), news.trouble)
        };

        server.knows(&[
            ("shop.svc", a(1)),
            ("shop.svc", aaaa(1)),
            (service, srv(7000, "one.svc")),
            (service, srv(7001, "two.svc")),
            ("one.svc", a(2)),
            ("two.svc", a(3)),
        ]);
        let all =
            ["/ip4/10.0.0.1/tcp/7271", "/ip4/10.0.0.2/tcp/7000", "/ip4/10.0.0.3/tcp/7001", "/ip6/fd00::1/tcp/7271"];
        assert_eq!(told().await, (all.map(str::to_owned).to_vec(), None));

        // One host has moved, another is no part of the service any more.
        server.knows(&[("shop.svc", a(9)), (service, srv(7001, "two.svc")), ("two.svc", a(3))]);
        let all = ["/ip4/10.0.0.3/tcp/7001", "/ip4/10.0.0.9/tcp/7271"];
        assert_eq!(told().await, (all.map(str::to_owned).to_vec(), None));

        // A name is gone: where it led to may be right still, and it is told.
        server.knows(&[("shop.svc", a(8))]);
        let (finds, trouble) = told().await;
        assert_eq!(finds, ["/ip4/10.0.0.3/tcp/7001", "/ip4/10.0.0.8/tcp/7271"]);
        assert!(trouble.is_some_and(|trouble| trouble.starts_with(service)), "it names the name");
    }
}
