//! Makes an environment with an installer that is kept apart as the agent is, sees an empty folder, and reaches the package
//! index only.
//!
//! ```text
//! an empty folder of the agent's user ─► steps, behind walls, beside them relay and watch ─► what is left is ended ─► sealed
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use par_model::Profile;
use par_model::control::{InstallRules, WorkerSpec};
use par_model::limits::{Grouping, Limits};
use par_model::log::Level;
use par_package::{Interpreter, Requirements, Sources, Step};
use par_sandbox::{
    Confinement, Group, Plan, Program, ToolError, View, end_strays, run_confined_tool, run_tool,
};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::index::Index;
use super::relay::{Proxies, Relay};
use super::sealed;
use crate::chain;
use crate::limits::workspace;
use crate::reports::Reporter;
use crate::surroundings::home_of;
use crate::variables::search_path;

/// Of an installer and all that it starts together. Compilers need more than agents do.
const MEMORY: u64 = 4 << 30;
const PROCESSES: u64 = 512;
const OPEN_FILES: u64 = 4096;
/// In memory; what is large goes to the environment's own folder.
const TMP_BYTES: u64 = 64 << 20;
const SHM_BYTES: u64 = 64 << 20;
/// On the installer's own loopback device.
const RELAY_PORT: u16 = 3128;
/// For what an installer has started to be gone.
const LONGEST_END: Duration = Duration::from_secs(5);
/// Between two looks at how large the environment is; looking takes a tenth of the time at most.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);
const SHARE_OF_LOOKING: u32 = 10;
/// For pip to say what it is configured with.
const LONGEST_QUESTION: Duration = Duration::from_secs(20);
/// A folder in the environment for what is needed while it is made.
const SITE: &str = ".making";

pub(super) struct Installation<'a> {
    pub(super) spec: &'a WorkerSpec,
    pub(super) interpreter: &'a Interpreter,
    pub(super) uv: Option<PathBuf>,
    /// Where the environment is made; nothing is there, and nobody else makes it.
    pub(super) home: &'a Path,
    pub(super) reporter: &'a Reporter,
}

impl Installation<'_> {
    /// Leaves no process and no group behind, however it ends.
    pub(super) async fn run(&self, requirements: &Requirements) -> Result<(), String> {
        self.make_folders(requirements)
            .map_err(|error| chain(&error))?;
        let group = self.group()?;
        let made = self.make(group.as_ref()).await;
        let ended = self.end(group.as_ref()).await;
        made.and(ended)?;
        let (home, python) = (self.home.to_owned(), self.interpreter.path.clone());
        let most = self.rules().bytes;
        let seal = move || {
            sealed::remove(&home.join(SITE)).map_err(|error| chain(&error))?;
            sealed::seal(&home, &python, most).map_err(|unfit| chain(&unfit))
        };
        let sealed = tokio::task::spawn_blocking(seal).await;
        sealed.map_err(|error| chain(&error))?
    }

    fn rules(&self) -> &InstallRules {
        &self.spec.install
    }

    fn make_folders(&self, requirements: &Requirements) -> io::Result<()> {
        std::fs::create_dir_all(self.home)?;
        let list = self.home.join(par_package::REQUIREMENTS_FILE);
        std::fs::write(&list, requirements.text())?;
        let site = self.home.join(SITE);
        let folders = [self.home.to_owned(), site.clone(), site.join("tmp")];
        for folder in &folders[1..] {
            std::fs::create_dir(folder)?;
        }
        if let Some(user) = self.spec.isolation.user {
            for path in folders.iter().chain([&list]) {
                std::os::unix::fs::lchown(path, Some(user), Some(user))?;
            }
        }
        Ok(())
    }

    /// One beside the agent's own, bounded before anybody is in it.
    fn group(&self) -> Result<Option<Group>, String> {
        let Grouping::In(place) = &self.spec.grouping else {
            return Ok(None);
        };
        let replica = Group::at(place.clone());
        let cpus = self.spec.wanted.cpus;
        let replica = match cpus {
            Some(_) => replica,
            None => replica.without_cpu(),
        };
        let group = replica.make("install")?;
        let limits = Limits {
            memory: Some(MEMORY),
            pids: Some(PROCESSES),
            cpus,
            ..Limits::default()
        };
        for limit in group.set(&limits).iter().filter(|limit| !limit.held) {
            let words = format!("installing dependencies: {limit}");
            self.reporter.say(Level::Warning, words);
        }
        Ok(Some(group))
    }

    /// Whatever is left of the installer, wherever it went.
    async fn end(&self, group: Option<&Group>) -> Result<(), String> {
        if let Some(group) = group
            && !group.end(LONGEST_END).await
        {
            return Err("what the installer has started could not be ended".to_owned());
        }
        match end_strays(Vec::new, LONGEST_END).await {
            0 => Ok(()),
            left => Err(format!(
                "{left} processes of the installer could not be ended"
            )),
        }
    }

    async fn make(&self, group: Option<&Group>) -> Result<(), String> {
        let sources = match self.rules().source_distributions {
            true => Sources::Built,
            false => Sources::Refused,
        };
        let steps =
            par_package::install_plan(self.interpreter, self.uv.as_deref(), self.home, sources);
        let give_up = Instant::now() + self.rules().deadline;
        if self.spec.isolation.profile == Profile::Unsafe {
            let words = "dependencies are installed without walls: the profile is `unsafe`";
            self.reporter.say(Level::Warning, words);
            for step in &steps {
                let left = give_up.saturating_duration_since(Instant::now());
                self.reporter.progress(step.label.clone());
                let on_line = |line: &str| self.show(line);
                let ended = run_tool(&step.argv, self.home, left, on_line).await;
                self.judge(ended)?;
            }
            return Ok(());
        }
        let way = self.way().await?;
        for step in &steps {
            let left = give_up.saturating_duration_since(Instant::now());
            self.reporter.progress(step.label.clone());
            let ended = self.perform(step, &way, group, left).await?;
            self.judge(ended)?;
        }
        Ok(())
    }

    fn judge(&self, ended: Result<(), ToolError>) -> Result<(), String> {
        let error = match ended {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let (output, status) = match &error {
            ToolError::Failed { output, status, .. } => (output, status),
            ToolError::TimedOut { .. } => {
                let longest = self.rules().deadline;
                return Err(format!(
                    "the installation took longer than {longest:?}, the most that `[packages] deadline_seconds` allows"
                ));
            }
            _ => return Err(chain(&error)),
        };
        let reason = match output.trim().is_empty() {
            true => chain(&error),
            false => par_package::failure_reason(output),
        };
        tracing::debug!(%status, %reason, "an installer failed");
        let wheelless = [
            "No matching distribution",
            "no usable wheels",
            "no wheels with",
        ];
        if !self.rules().source_distributions
            && wheelless.iter().any(|words| reason.contains(words))
        {
            return Err(format!(
                "{reason} (only wheels are installed; `[packages] source_distributions = true` also builds from source)"
            ));
        }
        Err(reason)
    }

    fn show(&self, line: &str) {
        if line.starts_with("Collecting ") || line.starts_with("Installing ") {
            self.reporter.progress(line.to_owned());
        }
    }

    async fn way(&self) -> Result<Way, String> {
        let environment: BTreeMap<String, String> = par_sandbox::tool_variables()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut index = match &self.uv {
            Some(_) => Index::of_uv(&environment),
            None => Index::of_pip(&self.ask_pip().await, &environment),
        };
        for host in &self.rules().hosts {
            index.also(host);
        }
        let relay = Relay {
            places: index.places.clone(),
            proxies: Proxies::of(&environment, index.proxy.as_deref())?,
            reporter: self.reporter.clone(),
            told: RefCell::default(),
        };
        Ok(Way {
            index,
            relay: Rc::new(relay),
            language: environment
                .into_iter()
                .filter(|(name, _)| name == "LANG" || name.starts_with("LC_"))
                .collect(),
        })
    }

    /// The operator's own pip, with the operator's own files: nothing hostile is in it yet.
    async fn ask_pip(&self) -> Vec<String> {
        let words = ["-I", "-m", "pip", "config", "list"].map(OsString::from);
        let mut argv = vec![self.interpreter.path.clone().into_os_string()];
        argv.extend(words);
        let mut said = vec![];
        let on_line = |line: &str| said.push(line.to_owned());
        if let Err(error) = run_tool(&argv, Path::new("/"), LONGEST_QUESTION, on_line).await {
            let words = format!(
                "this Python has no pip that says what it is configured with ({error}): variables are used, files are not"
            );
            self.reporter.say(Level::Warning, words);
            return own_variables();
        }
        said
    }

    async fn perform(
        &self,
        step: &Step,
        way: &Way,
        group: Option<&Group>,
        limit: Duration,
    ) -> Result<Result<(), ToolError>, String> {
        let has_network = self.spec.isolation.profile.has_namespaces();
        let here = match has_network {
            true => None,
            false => Some(listen_here().await.map_err(|error| chain(&error))?),
        };
        let port = here.as_ref().map_or(RELAY_PORT, |(port, _)| *port);
        let plan = self.plan(step, way, group, port)?;
        let beside = |listeners: Vec<std::net::TcpListener>| async move {
            let listener = match here {
                Some((_, listener)) => Ok(listener),
                None => adopt(listeners),
            };
            match listener {
                Ok(listener) => tokio::select! {
                    () = Rc::clone(&way.relay).serve(listener) => unreachable!("it serves until it is dropped"),
                    why = self.watch() => why,
                },
                Err(error) => format!("its network could not be served: {error}"),
            }
        };
        let on_line = |line: &str| self.show(line);
        Ok(run_confined_tool(&plan, limit, on_line, beside).await)
    }

    fn plan(
        &self,
        step: &Step,
        way: &Way,
        group: Option<&Group>,
        port: u16,
    ) -> Result<Plan, String> {
        let words = step.argv.iter().map(|word| word.clone().into_string());
        let words: Result<Vec<String>, OsString> = words.collect();
        let mut words = words
            .map_err(|word| format!("`{}` is not Unicode", word.display()))?
            .into_iter();
        let profile = self.spec.isolation.profile;
        let groupless = group.is_none();
        Ok(Plan {
            program: Program::Execute {
                path: words.next().unwrap_or_default().into(),
                arguments: words.collect(),
            },
            env: self.variables(way, port),
            folder: self.home.to_owned(),
            confinement: Confinement {
                profile,
                user: self.spec.isolation.user,
                view: self.view(way),
                ports: match profile.has_namespaces() {
                    true => vec![port],
                    false => vec![],
                },
                connects_to: Some(port),
                keeps_orphans: true,
                data_bytes: groupless.then_some(MEMORY),
                processes: Some(PROCESSES).filter(|_| groupless && profile.has_namespaces()),
                open_files: Some(OPEN_FILES),
                file_bytes: Some(self.rules().bytes),
                groups: group.map(Group::doors).unwrap_or_default(),
                ..Confinement::default()
            },
        })
    }

    fn view(&self, way: &Way) -> View {
        let mut read_only = way.index.paths.clone();
        read_only.extend(home_of(&self.interpreter.path));
        read_only.extend(self.uv.clone());
        View {
            read_only,
            writable: vec![self.home.to_owned()],
            tmp_bytes: TMP_BYTES,
            shm_bytes: SHM_BYTES,
            ..View::default()
        }
    }

    fn variables(&self, way: &Way, port: u16) -> BTreeMap<String, String> {
        let site = self.home.join(SITE).to_string_lossy().into_owned();
        let proxy = format!("http://127.0.0.1:{port}");
        let programs = [self.home.join("bin")];
        let fixed = [
            ("PATH", search_path(&programs)),
            ("TMPDIR", format!("{site}/tmp")),
            ("HOME", site.clone()),
            ("http_proxy", proxy.clone()),
            ("https_proxy", proxy.clone()),
            ("HTTP_PROXY", proxy.clone()),
            ("HTTPS_PROXY", proxy),
            ("PIP_NO_CACHE_DIR", "1".to_owned()),
            ("UV_CACHE_DIR", format!("{site}/cache")),
            ("UV_LINK_MODE", "copy".to_owned()),
            ("UV_PYTHON_DOWNLOADS", "never".to_owned()),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
        let told = way.index.variables.iter().chain(&way.language);
        let told = told.map(|(name, value)| (name.clone(), value.clone()));
        told.chain(fixed).collect()
    }

    /// Ends when the environment is larger than it may be, with the words for that.
    async fn watch(&self) -> String {
        let most = self.rules().bytes;
        loop {
            let home = self.home.to_owned();
            let began = Instant::now();
            let count = move || workspace::count(&home, sealed::MOST_FILES);
            let Ok(found) = tokio::task::spawn_blocking(count).await else {
                return "how large the environment is could not be counted".to_owned();
            };
            if found.bytes > most {
                return format!(
                    "the environment has more than {} MiB, the most that `[packages] environment_mb` allows",
                    most >> 20
                );
            }
            if found.files > sealed::MOST_FILES {
                return format!("the environment has more than {} files", sealed::MOST_FILES);
            }
            let rest = began.elapsed() * SHARE_OF_LOOKING;
            sleep(rest.clamp(SHORTEST_REST, LONGEST_REST)).await;
        }
    }
}

/// How an installer gets to its packages.
struct Way {
    index: Index,
    relay: Rc<Relay>,
    language: BTreeMap<String, String>,
}

/// In the machine's own network, for an installer that has no other and may connect to this port only.
async fn listen_here() -> io::Result<(u16, TcpListener)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    Ok((listener.local_addr()?.port(), listener))
}

fn adopt(listeners: Vec<std::net::TcpListener>) -> io::Result<TcpListener> {
    let none = || io::Error::other("the confiner handed over no listener");
    let listener = listeners.into_iter().next().ok_or_else(none)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// As `pip config list` would show them.
fn own_variables() -> Vec<String> {
    let text = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let name = name.strip_prefix("PIP_")?.to_lowercase().replace('_', "-");
        let value = value.into_string().ok()?.replace('\\', "\\\\");
        Some(format!(":env:.{name}='{value}'"))
    };
    par_sandbox::tool_variables().filter_map(text).collect()
}
