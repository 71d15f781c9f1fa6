//! Where the programs are that a measurement starts.

use std::path::{Path, PathBuf};

/// Paths of programs that are there.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) gateway: PathBuf,
    pub(crate) floor: PathBuf,
    pub(crate) naive: PathBuf,
    pub(crate) loadtest: PathBuf,
}

impl Programs {
    /// Those in `folder`, or beside this program. The error names what is missing.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, String> {
        let folder = match folder {
            Some(folder) => std::path::absolute(folder),
            None => std::env::current_exe().map(|program| program.parent().unwrap_or(&program).to_owned()),
        };
        let folder = folder.map_err(|error| format!("programs: no folder to look for them in: {error}"))?;
        let program = |name: &str| {
            let path = folder.join(name);
            let missing = || format!("programs: {} is not there; `make bench` builds it", path.display());
            path.is_file().then(|| path.clone()).ok_or_else(missing)
        };
        Ok(Self {
            gateway: program("sse-gateway")?,
            floor: program("sse-floor")?,
            naive: program("sse-naive")?,
            loadtest: program("sse-loadtest")?,
        })
    }
}
