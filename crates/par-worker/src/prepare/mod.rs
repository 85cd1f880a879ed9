//! What has to be there before the agent's code is loaded: an interpreter, our Python side, its dependencies.

mod dependencies;
mod index;
mod installation;
mod interpreters;
mod python_side;
mod relay;
mod sealed;

use std::io;
use std::path::{Path, PathBuf};

use par_model::control::{EndCause, WorkerSpec};
use par_package::{Interpreter, Package};

use crate::agent::process::worker_failed;
use crate::reports::Reporter;

pub(crate) use interpreters::choose as choose_interpreter;

/// All that is needed to start the agent.
pub(crate) struct Prepared {
    /// The interpreter to start: of the dependency environment, if there is one.
    pub(crate) python: PathBuf,
    pub(crate) harness: PathBuf,
    /// The program of an execution session.
    pub(crate) session: PathBuf,
    /// Folders of installed modules.
    pub(crate) site: Vec<PathBuf>,
    /// Folders of installed programs, for `PATH`.
    pub(crate) programs: Vec<PathBuf>,
}

pub(crate) async fn prepare(
    spec: &WorkerSpec,
    package: &Package,
    reporter: &Reporter,
) -> Result<Prepared, EndCause> {
    let own = |error: io::Error| worker_failed(&error);
    std::fs::create_dir_all(&spec.folders.workspace).map_err(own)?;
    own_folder(&spec.folders.workspace, spec.isolation.user).map_err(own)?;
    own_folder(&spec.folders.workspace.join("tmp"), spec.isolation.user).map_err(own)?;
    std::fs::create_dir_all(&spec.folders.environments).map_err(own)?;
    let home = python_side::ensure(&spec.folders.python).map_err(own)?;
    let found = choose_interpreter(
        spec.python.as_deref(),
        &spec.folders.environments,
        &package.manifest.runtime,
    )
    .await;
    let (interpreter, warning) = found.map_err(|reason| EndCause::LoadFailed {
        reason,
        traceback: None,
    })?;
    if let Some(warning) = warning {
        reporter.say(par_model::log::Level::Warning, warning);
    }
    let environment = dependencies::ensure(spec, package, &interpreter, reporter)
        .await
        .map_err(|reason| EndCause::DependenciesFailed { reason })?;
    Ok(match environment {
        None => bare(interpreter, &home),
        Some(environment) => Prepared {
            python: environment.python,
            harness: python_side::harness(&home),
            session: python_side::session(&home),
            site: vec![environment.site],
            programs: vec![environment.programs],
        },
    })
}

/// Makes a folder that is the agent's. What the agent may have put in its place meanwhile is not followed.
pub(crate) fn own_folder(folder: &Path, user: Option<u32>) -> io::Result<()> {
    match std::fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            std::fs::remove_file(folder)?;
            std::fs::create_dir(folder)?;
        }
        Err(_) => std::fs::create_dir(folder)?,
    }
    if let Some(user) = user {
        std::os::unix::fs::lchown(folder, Some(user), Some(user))?;
    }
    Ok(())
}

fn bare(interpreter: Interpreter, home: &Path) -> Prepared {
    let programs = interpreter
        .path
        .parent()
        .map(ToOwned::to_owned)
        .into_iter()
        .collect();
    Prepared {
        python: interpreter.path,
        harness: python_side::harness(home),
        session: python_side::session(home),
        site: vec![],
        programs,
    }
}
