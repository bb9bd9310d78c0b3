//! Everything a member is told before it starts: its settings and the group's genesis, or all that is wrong with both.

use std::path::Path;

use super::genesis_file;
use super::settings::layers::Layers;
use super::settings::{Mistakes, Settings};
use crate::types::Genesis;

/// Settings and genesis that fit together.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What this member chooses for itself.
    pub settings: Settings,
    /// What the group agreed on.
    pub genesis: Genesis,
}

impl Configuration {
    /// Reads both. `folder` is where relative paths of the configuration file count from.
    pub fn read(layers: &Layers, folder: &Path) -> Result<Configuration, Mistakes> {
        let settings = Settings::from_layers(layers, folder);
        let genesis = match Settings::genesis_path(layers, folder) {
            Some(path) => genesis_file::read(&path),
            None => Err(Mistakes(Vec::new())),
        };
        match (settings, genesis) {
            (Ok(settings), Ok(genesis)) => {
                let mistakes = settings.mistakes_beside(&genesis);
                Mistakes::unless(mistakes, || Configuration { settings, genesis })
            }
            (settings, genesis) => {
                let mistakes = |error: Option<Mistakes>| error.map(|mistakes| mistakes.0).unwrap_or_default();
                Err(Mistakes([mistakes(settings.err()), mistakes(genesis.err())].concat()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_both_files_are_told_together() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("genesis.toml"), "colour = 1\n").unwrap();
        let layers = Layers::gather(Some((Path::new("synod.toml"), "taste = 1\n")), [], []);
        let mistakes = Configuration::read(&layers, directory.path()).unwrap_err().to_string();
        assert!(mistakes.contains("taste in synod.toml is no setting"), "{mistakes}");
        assert!(mistakes.contains("colour is no key of a genesis"), "{mistakes}");
        assert!(mistakes.contains("nonce is missing"), "{mistakes}");
    }
}
