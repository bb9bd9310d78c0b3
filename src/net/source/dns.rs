//! Names that lead to others, resolved again and again, as the addresses behind them change.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use libp2p::multiaddr::Multiaddr;
use tokio::time::sleep;

use super::place::split_port;
use super::{News, Place, Source};
use crate::net::Transport;
use crate::types::limits;

/// Names are resolved again after this.
const LOOK_PAUSE: Duration = Duration::from_secs(3);
/// One name is resolved within this time, or not at all.
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
    names: Vec<DnsName>,
    told: Option<News>,
}

impl Names {
    pub fn new(names: Vec<DnsName>) -> Names {
        Names { names, told: None }
    }

    async fn resolve(&self) -> News {
        // Anew each time: the system's own configuration may have changed as well.
        let resolver = match resolver() {
            Ok(resolver) => resolver,
            Err(error) => return News { finds: Vec::new(), trouble: Some(error) },
        };
        let (mut finds, mut troubles) = (Vec::new(), Vec::new());
        for name in &self.names {
            let found = tokio::time::timeout(RESOLVE_MAX, places(&resolver, name)).await;
            match found.unwrap_or_else(|_| Err(format!("no answer within {} s", RESOLVE_MAX.as_secs()))) {
                Ok(places) => finds.extend(places),
                Err(error) => troubles.push(format!("{name}: {error}")),
            }
        }
        // Servers turn the order around each time.
        finds.sort();
        finds.dedup();
        News { finds, trouble: (!troubles.is_empty()).then(|| troubles.join("; ")) }
    }
}

fn resolver() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| format!("no resolver: {error}"))?;
    let options = builder.options_mut();
    (options.cache_size, options.attempts, options.timeout) = (0, 1, RESOLVE_MAX);
    builder.build().map_err(|error| format!("no resolver: {error}"))
}

async fn places(resolver: &TokioResolver, name: &DnsName) -> Result<Vec<Place>, String> {
    match name {
        DnsName::Host { host, port } => {
            let addresses = addresses(resolver, host).await?;
            Ok(addresses.into_iter().map(|ip| place(ip, *port)).collect())
        }
        DnsName::Service(service) => {
            let answer = resolver.srv_lookup(service.as_str()).await.map_err(|error| error.to_string())?;
            let targets = answer.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) if srv.port != 0 => Some((srv.target.to_utf8(), srv.port)),
                _ => None,
            });
            let (mut places, mut trouble) = (Vec::new(), None);
            for (host, port) in targets.take(limits::SOURCE_ADDRESSES_MAX) {
                match addresses(resolver, &host).await {
                    Ok(addresses) => places.extend(addresses.into_iter().map(|ip| place(ip, port))),
                    Err(error) => trouble = Some(format!("{host}: {error}")),
                }
            }
            // One host that is gone is no reason to forget the others.
            trouble.filter(|_| places.is_empty()).map_or(Ok(places), Err)
        }
    }
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
            let mut news = self.resolve().await;
            if news.trouble.is_some()
                && let Some(told) = &self.told
            {
                // What it led to may be there still: a name server that is down moves nobody.
                let kept: Vec<Place> = told.finds.iter().filter(|place| !news.finds.contains(place)).cloned().collect();
                news.finds.extend(kept);
                news.finds.truncate(limits::SOURCE_ADDRESSES_MAX);
                news.finds.sort();
            }
            if self.told.as_ref() != Some(&news) {
                self.told = Some(news.clone());
                return news;
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
}
