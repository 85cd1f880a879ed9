//! `par deploy`: a package goes up, and its agent comes up.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::Method;
use par_model::api::{DeployEvent, DeployOptions, Deployed, SpawnOptions};
use par_model::limits::Priority;
use par_model::network::Destination;
use par_model::{AgentId, RestartMode, Role};
use tokio::fs::File;

use super::Context;
use super::asking;
use super::environment::{self, Variable};
use super::fleet::{self, Offers, Way};
use super::packing::Package;
use crate::client::{Answer, ClientError, Upload};
use crate::exit::{Exit, Problem};
use crate::terminal::{Progress, bytes, harmless, shell_word};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par deploy hello-0.1.0.apkg                a package\n  \
        par deploy ./hello                         a folder: packed, then deployed\n  \
        par deploy ./hello --name greeter          under another name\n  \
        par deploy ./hello --env KEY=value --env-file prod.env\n  \
        par deploy ./hello --memory 256 --cpu 0.5   limited; `par ps` shows what holds\n  \
        par deploy ./hello --secret-file keys.env   values that are kept apart and never shown\n  \
        par deploy ./hello --canary 10              gets 10 % of the calls until `par promote hello`\n  \
        par deploy ./hello --replicas 3             three processes side by side\n\n\
        Beside a running agent of that name the new release starts; when it answers, it takes the calls, and the old\n\
        one finishes those it has. If it does not come up, the old one simply goes on.")]
pub(crate) struct Deploy {
    /// An .apkg file, or a folder with an agent.yaml
    #[arg(value_name = "FILE|FOLDER")]
    source: PathBuf,

    /// The agent's name; without one, the package's
    #[arg(long, value_name = "ID")]
    name: Option<AgentId>,

    /// A variable of the agent's environment; above what the package sets
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<Variable>,

    /// A file of such variables, one KEY=VALUE a line; --env wins
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// A file of secrets, one KEY=VALUE a line; kept readable for the owner only, never shown
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// A secret whose value is in a variable of this name here: what stands on a command line is seen by others
    #[arg(long, value_name = "KEY")]
    secret_env: Vec<String>,

    /// Let the new release have this share of the calls, in percent, beside the running one
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<f64>,

    /// Processes that serve the agent side by side; without it, as many as it has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    replicas: Option<u32>,

    /// Freeze the agent when nobody has called it for so long
    #[arg(long, value_name = "SECONDS", value_parser = finite)]
    idle_timeout: Option<f64>,

    /// Stop it when it has been frozen for so long; the next call starts it [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = finite, requires = "idle_timeout")]
    idle_stop: Option<f64>,

    /// What to do when the agent ends by itself
    #[arg(long, value_enum)]
    restart: Option<Restart>,

    /// Seconds between two probes whether the agent still answers; 0 for none [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = finite)]
    liveness_interval: Option<f64>,

    /// Seconds that an answer may take before the agent is ended as one that hangs; 0 for ever [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = finite)]
    liveness_deadline: Option<f64>,

    /// A path of the agent's own that has to answer 2xx, too
    #[arg(long, value_name = "PATH")]
    liveness_path: Option<String>,
    /// Somewhere that the agent asks to go, beside what its agent.yaml asks for
    #[arg(long, value_name = "DESTINATION")]
    network: Vec<Destination>,

    /// Let the agent go there: HOST:PORT, *.DOMAIN:PORT, ADDRESS:PORT or https://HOST; may be given several times
    #[arg(long, value_name = "DESTINATION")]
    grant_network: Vec<Destination>,

    /// A role of which callers need one; may be given several times [default: what the package asks for]
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    role_required: Option<Vec<Role>>,

    /// An agent that this one may call, and no others; may be given several times
    #[arg(long, value_name = "AGENT", value_delimiter = ',')]
    calls: Option<Vec<AgentId>>,
    #[command(flatten)]
    limits: LimitFlags,

    /// Return once the package is accepted, not when the agent answers
    #[arg(long)]
    no_wait: bool,
}

/// JSON has no other numbers, and nobody waits for them.
fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    number
        .is_finite()
        .then_some(number)
        .ok_or_else(|| "not a finite number".to_owned())
}

/// `10` or `10%`
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: Option<f64> = number.parse().ok();
    percent
        .filter(|percent| (0.1..=99.9).contains(percent))
        .ok_or_else(|| "a share is between 0.1 and 99.9 percent".to_owned())
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Memory of all its processes together
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    memory: Option<u64>,

    /// Processors' worth of time, such as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = finite)]
    cpu: Option<f64>,

    /// Processes and threads
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(4..))]
    pids: Option<u64>,

    /// Files that each process may have open
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(16..))]
    open_files: Option<u64>,

    /// Files in its workspace
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    workspace: Option<u64>,

    /// Who goes first when processors are short
    #[arg(long, value_enum)]
    priority: Option<Preference>,

    /// Do not start it where one of its limits cannot be held
    #[arg(long)]
    require_limits: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preference {
    Low,
    Normal,
    High,
}

impl From<Preference> for Priority {
    fn from(preference: Preference) -> Self {
        match preference {
            Preference::Low => Self::Low,
            Preference::Normal => Self::Normal,
            Preference::High => Self::High,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Restart {
    /// Leave it ended
    Never,
    /// Start it again after a crash, not after an exit with code 0
    OnFailure,
    /// Start it again after every end that nobody asked for
    Always,
}

impl From<Restart> for RestartMode {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Never => Self::Never,
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
        }
    }
}

/// How long `deploy` stays to watch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Accepted,
    Answering,
}

/// What is known when `deploy` returns.
pub(crate) enum Outcome {
    Accepted { package_id: String },
    Answering(Deployed),
}

impl Deploy {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let until = if self.no_wait {
            Until::Accepted
        } else {
            Until::Answering
        };
        let package = Package::of(&self.source, context.terminal).await?;
        let mut options = self.options()?;
        asking::ask(context, &package, &mut options).await?;
        match deploy(context, &package, &options, until).await? {
            Outcome::Accepted { package_id } => accepted(context, &package_id),
            Outcome::Answering(deployed) => answering(context, &deployed).await,
        }
    }

    fn options(self) -> anyhow::Result<DeployOptions> {
        let mut env_vars = match &self.env_file {
            Some(path) => environment::of_file(path)?,
            None => Default::default(),
        };
        env_vars.extend(self.env.into_iter().map(Variable::into_pair));
        let mut secrets = match &self.secret_file {
            Some(path) => environment::of_file(path)?,
            None => Default::default(),
        };
        for key in self.secret_env {
            secrets.insert(key.clone(), environment::of_ours(&key)?);
        }
        Ok(DeployOptions {
            agent_id: self.name.map(String::from),
            package_id: None,
            env_vars,
            secrets,
            canary_percent: self.canary,
            grant_network: self.grant_network,
            options: SpawnOptions {
                role_required: self.role_required,
                calls: self.calls,
                replicas: self.replicas,
                idle_timeout_seconds: self.idle_timeout,
                idle_stop_seconds: self.idle_stop,
                restart_policy: self.restart.map(RestartMode::from),
                liveness_interval_seconds: self.liveness_interval,
                liveness_deadline_seconds: self.liveness_deadline,
                liveness_path: self.liveness_path,
                network: self.network,
                memory_limit_mb: self.limits.memory,
                cpu_limit: self.limits.cpu,
                pids_limit: self.limits.pids,
                open_files_limit: self.limits.open_files,
                workspace_limit_mb: self.limits.workspace,
                priority: self.limits.priority.map(Priority::from),
                require_limits: self.limits.require_limits.then_some(true),
                ..SpawnOptions::default()
            },
        })
    }
}

fn accepted(context: &Context, package_id: &str) -> anyhow::Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        terminal.print_json(&serde_json::json!({ "package_id": package_id }))?;
    } else {
        let ps = context.par("ps");
        terminal.print(&format!(
            "{package_id} is accepted; `{ps}` shows how it comes up"
        ))?;
    }
    Ok(())
}

async fn answering(context: &Context, deployed: &Deployed) -> anyhow::Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        terminal.print_json(deployed)?;
        return Ok(());
    }
    let (agent, url) = (&deployed.agent_id, context.client.origin());
    // An agent that has ended meanwhile says nothing of itself; most can be called.
    let offers = fleet::offers(&context.client, agent).await;
    let (path, line) = match offers.map_or(Way::Call, Offers::first_way) {
        Way::Call => {
            let words = context.par(&format!("call {agent} '{{}}'"));
            (deployed.invoke_path.clone(), words)
        }
        Way::Exec => {
            let words = context.par(&format!("exec {agent} -c 'print(1 + 1)'"));
            (format!("/agents/{agent}/sessions"), words)
        }
        Way::Paths => {
            let path = format!("/agents/{agent}/");
            let words = format!("curl {url}{path}");
            (path, words)
        }
        Way::Action(action) => (format!("/agents/{agent}"), grpcurl(context, agent, &action)),
    };
    if let Some(percent) = deployed.canary_percent {
        let (promote, rollback) = (
            context.par(&format!("promote {agent}")),
            context.par(&format!("rollback {agent}")),
        );
        let release = deployed.release;
        terminal.print(&format!(
            "release {release} of {agent} takes {percent} % of the calls: {url}{path}\n  all of them: {promote}\n  none again: {rollback}"
        ))?;
        return Ok(());
    }
    terminal.print(&format!("{agent} is running: {url}{path}\n  try: {line}"))?;
    Ok(())
}

/// For an agent that is only there over gRPC.
fn grpcurl(context: &Context, agent: &str, action: &str) -> String {
    let address = context.client.origin().authority();
    let message = shell_word(&serde_json::json!({ "action": action }).to_string());
    format!(
        "grpcurl -plaintext -H 'x-agent-id: {agent}' -d {message} {address} pixell.agent.AgentService/Invoke"
    )
}

/// Sends the package and follows what becomes of it.
pub(crate) async fn deploy(
    context: &Context,
    package: &Package,
    options: &DeployOptions,
    until: Until,
) -> anyhow::Result<Outcome> {
    let progress = context.terminal.progress();
    progress.say("connecting");
    let work = async {
        let answer = upload(context, package, options, &progress).await?;
        let mut answer = match answer.success().await {
            Ok(answer) => answer,
            Err(error) => return Err(refused(package, error)),
        };
        let agent = options.agent_id.as_deref();
        follow(context, &mut answer, agent, until, &progress).await
    };
    progress.during(work).await
}

async fn upload(
    context: &Context,
    package: &Package,
    options: &DeployOptions,
    progress: &Progress,
) -> anyhow::Result<Answer> {
    let file = File::open(package.path()).await?;
    let shown = progress.clone();
    let on_progress = move |sent, length| {
        if sent < length {
            shown.say(format!("uploading: {} of {}", bytes(sent), bytes(length)));
        } else {
            shown.say("checking the package");
        }
    };
    let upload = Upload::new(&serde_json::to_string(options)?, file, on_progress).await?;
    let client = &context.client;
    let request = client.request_for(Method::POST, "/supervisor/deploy", "application/x-ndjson");
    Ok(client.send(upload.describe(request), upload).await?)
}

/// A 400 is about the package.
fn refused(package: &Package, error: ClientError) -> anyhow::Error {
    match &error {
        ClientError::Refused { status, detail } if matches!(status.as_u16(), 400 | 413) => {
            let inspect = format!("`par inspect {}` shows all that is wrong", package.name());
            Problem::new(Exit::Refused, format!("the package is refused: {detail}"))
                .help(inspect)
                .into()
        }
        _ => error.into(),
    }
}

async fn follow(
    context: &Context,
    answer: &mut Answer,
    named: Option<&str>,
    until: Until,
    progress: &Progress,
) -> anyhow::Result<Outcome> {
    let mut agent = named.map(str::to_owned);
    while let Some(event) = answer.json_line().await? {
        match event {
            DeployEvent::Checked {
                package_id,
                warnings,
                ..
            } => {
                for warning in &warnings {
                    context.terminal.warn(warning);
                }
                if until == Until::Accepted {
                    return Ok(Outcome::Accepted { package_id });
                }
                progress.say(format!("{package_id} comes up"));
                // Without a name of its own an agent is called what its package is.
                let name = || package_id.split('@').next().map(str::to_owned);
                agent = agent.or_else(name);
            }
            DeployEvent::Progress { message } => progress.say(message),
            DeployEvent::Deployed(deployed) => return Ok(Outcome::Answering(deployed)),
            DeployEvent::Failed { detail, traceback } => {
                return Err(failed(context, agent, &detail, traceback.as_deref()));
            }
        }
    }
    let message = "the supervisor ended its answer before the agent was up";
    let ps = format!("`{}` shows what became of it", context.par("ps"));
    Err(Problem::new(Exit::Failed, message).help(ps).into())
}

fn failed(
    context: &Context,
    agent: Option<String>,
    detail: &str,
    traceback: Option<&str>,
) -> anyhow::Error {
    if let (Some(traceback), false) = (traceback, context.terminal.json) {
        context.terminal.note(&harmless(traceback.trim_end()));
    }
    let logs = context.par(&format!("logs {}", agent.unwrap_or_default()));
    let logs = format!("`{}` shows what it wrote", logs.trim_end());
    Problem::new(Exit::Failed, detail).help(logs).into()
}
