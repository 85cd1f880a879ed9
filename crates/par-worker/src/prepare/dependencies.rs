//! The dependencies of an agent: one environment a set of requirements, shared by all agents that ask for the same.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use par_model::control::WorkerSpec;
use par_model::log::Level;
use par_package::{Interpreter, Package, Requirements, StubNeeds};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::installation::Installation;
use super::sealed;
use crate::chain;
use crate::reports::Reporter;

/// Environments of another layout are left to those who use them.
const LAYOUT: &str = "2";

/// Between two tries to be the one who installs.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Environment {
    pub(crate) python: PathBuf,
    pub(crate) site: PathBuf,
    pub(crate) programs: PathBuf,
}

/// The environment for what `package` requires, installed first if it is not there; `None` when it requires nothing.
pub(crate) async fn ensure(
    spec: &WorkerSpec,
    package: &Package,
    interpreter: &Interpreter,
    reporter: &Reporter,
) -> Result<Option<Environment>, String> {
    let (requirements, overruled) = StubNeeds::of(&package.root).raise(package.requirements());
    for warning in overruled {
        reporter.say(Level::Warning, warning);
    }
    if requirements.is_empty() {
        return Ok(None);
    }
    let folder = spec.folders.environments.join(LAYOUT);
    std::fs::create_dir_all(&folder).map_err(|error| chain(&error))?;
    let home = folder.join(requirements.key(interpreter).as_str());
    if !is_complete(&home) {
        let _alone = lock(&home, reporter).await.map_err(|error| chain(&error))?;
        if !is_complete(&home)
            && let Err(reason) = install(spec, &requirements, interpreter, &home, reporter).await
        {
            remove(&home, reporter).await;
            return Err(reason);
        }
    }
    Ok(Some(Environment {
        python: home.join("bin").join("python"),
        site: par_package::site_packages(&home, interpreter),
        programs: home.join("bin"),
    }))
}

fn is_complete(home: &Path) -> bool {
    seal_of(home).is_file() && home.is_dir()
}

/// Beside the environment, where its installer cannot write: there when it is finished.
fn seal_of(home: &Path) -> PathBuf {
    home.with_extension("complete")
}

/// What could not be installed is of no use to anybody.
async fn remove(home: &Path, reporter: &Reporter) {
    let useless = home.to_owned();
    let removed = tokio::task::spawn_blocking(move || sealed::remove(&useless)).await;
    if let Err(error) = removed.map_err(io::Error::other).flatten() {
        let words = format!("failed to remove {}: {error}", home.display());
        reporter.say(Level::Warning, words);
    }
}

/// Waits until no other worker installs the same.
async fn lock(home: &Path, reporter: &Reporter) -> io::Result<File> {
    let file = File::create(home.with_extension("lock"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(file);
    }
    reporter.progress("waiting for dependencies that another agent is installing");
    // Nothing tells when a lock is free, and a thread that blocks on it could not be called off at our end.
    let mut pause = Duration::from_millis(5);
    loop {
        tokio::time::sleep(pause).await;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) => pause = (pause * 2).min(LONGEST_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn install(
    spec: &WorkerSpec,
    requirements: &Requirements,
    interpreter: &Interpreter,
    home: &Path,
    reporter: &Reporter,
) -> Result<(), String> {
    let cut_off = home.to_owned(); // An installation that was.
    let removed = tokio::task::spawn_blocking(move || sealed::remove(&cut_off)).await;
    removed
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| chain(&error))?;
    let installation = Installation {
        spec,
        interpreter,
        uv: find_on_path("uv").and_then(|uv| uv.canonicalize().ok()),
        home,
        reporter,
    };
    installation.run(requirements).await?;
    std::fs::write(seal_of(home), "").map_err(|error| chain(&error))
}

pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports;

    #[test]
    fn a_worker_that_waits_for_an_installation_can_end_and_one_that_goes_on_gets_its_turn() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().join("environment");
        let runtime = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().build().expect("a runtime")
        };
        let (reporter, _reports) = reports::channel();
        let first = runtime().block_on(lock(&home, &reporter)).expect("free");
        let short = Duration::from_millis(20);
        let ending = runtime();
        let waited =
            ending.block_on(async { tokio::time::timeout(short, lock(&home, &reporter)).await });
        assert!(waited.is_err(), "the first still has it");
        drop(ending); // Would wait for a thread that waits for the lock.
        runtime().block_on(async {
            let freed = async { drop(first) };
            let (locked, ()) = tokio::join!(lock(&home, &reporter), freed);
            locked.expect("free again");
        });
    }
}
