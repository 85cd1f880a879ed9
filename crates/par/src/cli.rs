//! The words that `par` understands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::client::{Client, Credential, Origin, Trust};
use crate::command::{
    Context, audit, build, call, completions, deploy, doctor, events, exec, init, inspect,
    lifecycle, logs, network, ps, releases, run, secret, token, up, upgrade,
};
use crate::terminal::Terminal;
use crate::{demo, exit};

#[derive(Parser)]
#[command(
    name = "par",
    version,
    about = "Hosts many AI agents on a machine: drop in a package, call it over HTTP.",
    long_about = "Hosts many AI agents on a machine: drop in a package; it is checked, served, supervised and watched.\n\n\
        New here? `par demo` shows agents at work. Then:\n  \
        par init my-agent      write a small agent\n  \
        par up                 start the supervisor (in another terminal)\n  \
        par deploy my-agent    bring the agent up\n  \
        par call my-agent      call it\n\n\
        An agent with the execution backend runs code: `par exec AGENT -c 'print(1 + 1)'`.",
    after_help = exit::TABLE,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Answer in JSON, for programs; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Where the supervisor answers
    #[arg(
        long,
        global = true,
        env = "PAR_URL",
        default_value = "http://127.0.0.1:8000"
    )]
    url: Origin,

    /// A file with the token that we show to the supervisor; PAR_TOKEN may hold the token itself
    #[arg(long, global = true, env = "PAR_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Trust these certificates (PEM) for https://, instead of those that the machine trusts
    #[arg(long, global = true, env = "PAR_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The certificate (PEM) that we show to a supervisor that asks for one
    #[arg(
        long,
        global = true,
        env = "PAR_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key"
    )]
    client_cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(
        long,
        global = true,
        env = "PAR_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert"
    )]
    client_key: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the supervisor and serve until Ctrl-C
    Up(up::Up),
    /// Show agents at work: one asks another, one runs code
    Demo(demo::Demo),
    /// Bring an agent up from a package or a folder, and wait until it answers
    Deploy(deploy::Deploy),
    /// List the agents and how they are
    Ps(ps::Ps),
    /// Call an agent and print its answer
    Call(call::Call),
    /// Run Python code in a session of an agent, or talk to it line by line
    Exec(exec::Exec),
    /// Show what agents have written
    Logs(logs::Logs),
    /// Show what happened to agents, and why
    Events(events::Events),
    /// Stop agents once their calls are done; they stay listed
    Stop(lifecycle::Stop),
    /// Start stopped agents again
    Start(lifecycle::Start),
    /// Stop agents and start them again
    Restart(lifecycle::Restart),
    /// Stop agents and forget them
    Rm(lifecycle::Remove),
    /// List the releases of an agent
    Releases(releases::Releases),
    /// Let a canary go, or bring an earlier release back
    Rollback(releases::Rollback),
    /// Give a canary all calls
    Promote(releases::Promote),
    /// Say how many processes serve an agent side by side
    Scale(releases::Scale),
    /// Say where an agent may go
    Network(network::Network),
    /// Give an agent secrets that it need not have itself
    Secret(secret::Secret),
    /// Put this binary in the place of the running supervisor; calls and agents go on
    Upgrade(upgrade::Upgrade),
    /// Make, list and revoke tokens: who may call
    Token(token::Token),
    /// Show what was decided about callers
    Audit(audit::Audit),
    /// Show what is in a package, and what is wrong with it
    Inspect(inspect::Inspect),
    /// Pack a folder into an .apkg, the same bytes every time
    Build(build::Build),
    /// Write a small agent that runs as it is
    Init(init::Init),
    /// Serve one package alone, without a supervisor
    Run(run::Run),
    /// Check this machine, and say what to do about what is missing
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    pub(crate) fn run(self, terminal: Terminal) -> anyhow::Result<()> {
        let credential = Credential::find(self.token_file.as_deref(), &self.url)?;
        let context = Context {
            client: Client::new(
                self.url,
                Trust {
                    ca: self.ca,
                    certificate: self.client_cert.zip(self.client_key),
                },
                credential,
            ),
            terminal,
        };
        match self.command {
            Command::Up(up) => up.run(&context),
            Command::Run(run) => run.run(&context),
            Command::Init(init) => init.run(&context),
            Command::Build(build) => wait_for(build.run(&context)),
            Command::Inspect(inspect) => wait_for(inspect.run(&context)),
            Command::Completions(completions) => completions.run(&context),
            Command::Demo(demo) => wait_for(demo.run(terminal)),
            Command::Deploy(deploy) => wait_for(deploy.run(&context)),
            Command::Ps(ps) => wait_for(ps.run(&context)),
            Command::Call(call) => wait_for(call.run(&context)),
            Command::Exec(exec) => wait_for(exec.run(&context)),
            Command::Logs(logs) => wait_for(logs.run(&context)),
            Command::Events(events) => wait_for(events.run(&context)),
            Command::Stop(stop) => wait_for(stop.run(&context)),
            Command::Start(start) => wait_for(start.run(&context)),
            Command::Restart(restart) => wait_for(restart.run(&context)),
            Command::Rm(remove) => wait_for(remove.run(&context)),
            Command::Releases(releases) => wait_for(releases.run(&context)),
            Command::Rollback(rollback) => wait_for(rollback.run(&context)),
            Command::Promote(promote) => wait_for(promote.run(&context)),
            Command::Scale(scale) => wait_for(scale.run(&context)),
            Command::Network(network) => wait_for(network.run(&context)),
            Command::Secret(secret) => wait_for(secret.run(&context)),
            Command::Upgrade(upgrade) => wait_for(upgrade.run(&context)),
            Command::Token(token) => wait_for(token.run(&context)),
            Command::Audit(audit) => wait_for(audit.run(&context)),
            Command::Doctor(doctor) => wait_for(doctor.run(&context)),
        }
    }
}

/// A command waits for one thing at a time: one thread is enough.
pub(crate) fn wait_for<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
