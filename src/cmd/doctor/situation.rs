//! What is known of a member before anything is tried: its configuration as far as it can be used, and every mistake in it.

use std::path::{Path, PathBuf};

use libp2p::Multiaddr;

use super::DoctorArguments;
use crate::node::configuration::Configuration;
use crate::node::examination::Finding;
use crate::node::settings::layers::Layers;
use crate::node::settings::{Bootstrap, Mistakes, Settings};
use crate::node::{genesis_file, reach};
use crate::types::{Genesis, MemberId, Timing, text};

/// A member as its files tell.
#[derive(Default)]
pub struct Situation {
    /// What there is to say of the configuration.
    pub findings: Vec<Finding>,
    /// Settings and genesis, if nothing is wrong with either.
    configuration: Option<Configuration>,
    /// Its settings, if none is wrong.
    pub settings: Option<Settings>,
    /// Its genesis, if that can be used.
    pub genesis: Option<Genesis>,
    /// Its directory, even if other settings are wrong. None if the files are not those of the sidecar that is meant.
    pub data_dir: Option<PathBuf>,
    /// Whether there is no genesis because it founds its group with others.
    pub founds: bool,
    /// Whether there is a file of a genesis, be it that it cannot be used.
    pub has_genesis: bool,
}

const CHECK: &str = "configuration";

impl Situation {
    /// Reads all that there is.
    pub fn gather(arguments: &DoctorArguments) -> Situation {
        if arguments.api.names_sidecar() && !arguments.settings.are_given() {
            let what = "not examined: --api says which sidecar is meant, nothing says where its files are; --config or \
                        --data-dir does";
            return Situation { findings: vec![Finding::ok(CHECK, what)], ..Situation::default() };
        }
        match arguments.settings.gather() {
            Ok(gathered) => Situation::read(&gathered.layers, &gathered.folder),
            Err(failure) => {
                let advice = "--config names the member's synod.toml";
                Situation { findings: vec![Finding::fail(CHECK, failure.message, advice)], ..Situation::default() }
            }
        }
    }

    fn read(layers: &Layers, folder: &Path) -> Situation {
        let (named, joined) = Settings::genesis_paths(layers, folder);
        let data_dir = joined.as_deref().and_then(Path::parent).map(Path::to_owned);
        match Configuration::read(layers, folder) {
            Ok(configuration) => {
                let Configuration { settings, genesis, joined } = configuration.clone();
                let what = format!(
                    "usable: group `{}` ({}), founded by {}{}",
                    genesis.name,
                    genesis.cluster().short(),
                    genesis.members.len(),
                    if joined { "; its genesis is in data_dir" } else { "" }
                );
                let findings = vec![Finding::ok(CHECK, what)];
                Situation {
                    findings,
                    configuration: Some(configuration),
                    settings: Some(settings),
                    genesis: Some(genesis),
                    data_dir,
                    founds: false,
                    has_genesis: true,
                }
            }
            Err(Mistakes(mistakes)) => {
                let settings = Settings::from_layers(layers, folder).ok();
                let has_genesis = [&named, &joined].into_iter().flatten().any(|path| path.exists());
                if let (Some(settings), false) = (&settings, has_genesis)
                    && let Some(bootstrap) = &settings.bootstrap
                {
                    return Situation::founding(settings, bootstrap, data_dir);
                }
                let genesis = joined.filter(|path| path.exists()).or(named);
                Situation {
                    findings: mistakes.into_iter().map(mistake).collect(),
                    configuration: None,
                    settings,
                    genesis: genesis.and_then(|path| genesis_file::read(&path).ok()),
                    data_dir,
                    founds: false,
                    has_genesis,
                }
            }
        }
    }

    fn founding(settings: &Settings, bootstrap: &Bootstrap, data_dir: Option<PathBuf>) -> Situation {
        let Bootstrap { cluster, expect, .. } = bootstrap;
        let what = format!("usable: there is no genesis yet; founds group `{cluster}` as one of {expect}");
        let findings = vec![Finding::ok(CHECK, what)];
        Situation { findings, settings: Some(settings.clone()), data_dir, founds: true, ..Situation::default() }
    }

    /// When the member acts on silence; the defaults if its settings cannot be used.
    pub fn timing(&self) -> Timing {
        self.settings.as_ref().map(|settings| settings.timing).unwrap_or_default()
    }

    /// Size of one file of its log.
    pub fn segment_bytes(&self) -> u64 {
        let usual = || {
            let setting = crate::node::settings::table::setting("wal.segment_bytes").expect("it is a setting");
            text::size(setting.default).expect("defaults can be read")
        };
        self.settings.as_ref().map_or_else(usual, |settings| settings.segment_bytes)
    }

    /// Where its mesh is to listen, as far as that is known.
    pub fn mesh_listen(&self, member: Option<MemberId>) -> Vec<Multiaddr> {
        let Some(settings) = &self.settings else { return Vec::new() };
        let mut members = self.genesis.iter().flat_map(|genesis| &genesis.members);
        let listens = match (&self.configuration, member) {
            (Some(configuration), Some(member)) => configuration.mesh_listen(&member),
            // Without its key nobody can tell which of the founders it is.
            (_, None) if self.genesis.is_some() => Ok(settings.mesh_listen.clone()),
            (_, member) => reach::listens(settings, members.find(|named| Some(named.id) == member)),
        };
        // What is wrong with it is told among the mistakes of the configuration.
        listens.unwrap_or_default()
    }
}

/// A mistake says itself what to do.
fn mistake(mistake: String) -> Finding {
    Finding::fail(
        CHECK,
        mistake,
        "correct it; `synod config check` reads it again, and `synod config show` tells what comes from where",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::examination::State;

    #[test]
    fn every_mistake_is_a_finding_and_the_directory_is_known_nevertheless() {
        let folder = tempfile::tempdir().unwrap();
        let layers =
            Layers::gather(Some((Path::new("synod.toml"), "data_dir = \"d\"\ntaste = 1\n[wal]\nx = 2\n")), [], []);
        let situation = Situation::read(&layers, folder.path());
        assert_eq!(situation.data_dir, Some(folder.path().join("d")));
        let told: Vec<&str> = situation.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert!(told.len() == 3 && told.iter().any(|what| what.contains("genesis.toml")), "{told:?}");
        assert!(situation.findings.iter().all(|finding| finding.state == State::Fail));
        assert!(situation.settings.is_none() && situation.mesh_listen(None).is_empty());
        assert_eq!(situation.segment_bytes(), 64 << 20);
    }

    #[test]
    fn who_founds_a_group_needs_no_genesis() {
        let folder = tempfile::tempdir().unwrap();
        let file = "cluster = \"shop\"\n[bootstrap]\nexpect = \"3\"\n";
        let situation = Situation::read(&Layers::gather(Some((Path::new("synod.toml"), file)), [], []), folder.path());
        assert!(situation.founds && situation.findings[0].state == State::Ok, "{:?}", situation.findings);
        assert!(situation.findings[0].what.ends_with("founds group `shop` as one of 3"));
        assert!(!situation.mesh_listen(None).is_empty());
    }

    #[test]
    fn settings_count_even_where_the_genesis_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let situation = Situation::read(&Layers::gather(None, [], []), folder.path());
        assert_eq!(situation.findings.len(), 1);
        assert!(situation.genesis.is_none() && !situation.has_genesis);
        std::fs::write(folder.path().join("genesis.toml"), "name = 1").unwrap();
        let damaged = Situation::read(&Layers::gather(None, [], []), folder.path());
        assert!(damaged.genesis.is_none() && damaged.has_genesis);
        assert_eq!(situation.mesh_listen(None)[0].to_string(), "/ip4/0.0.0.0/tcp/7271");
    }
}
