//! `par token`: who may call.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use par_model::access::{TokenCreated, TokenInfo, TokenRequest};
use par_model::api::Done;
use par_model::{Role, Scope, TokenName};

use super::Context;
use crate::client::{save, segment};
use crate::exit::{Exit, Problem};
use crate::terminal::{Cell, Column, Row, Style, Table};

#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token, and print it once
    Create(Create),
    /// List the tokens, without their secrets
    List,
    /// Make a token useless, at once
    Revoke(Revoke),
}

#[derive(Args)]
#[command(after_help = "Scopes:\n  \
        admin         everything\n  \
        deploy        bring agents up, change and remove them; read\n  \
        read          status, logs, events, figures\n  \
        call          call every agent\n  \
        call:AGENT    call this one\n\n\
        Examples:\n  \
        par token create ci --scope deploy --expires 30d > ci.token\n  \
        par token create me --scope admin --save        commands use it from now on\n  \
        par token create web --scope call:hello --role staff\n  \
        par token create first --scope admin --state /var/lib/par    before the supervisor runs\n\n\
        Callers send it as `Authorization: Bearer TOKEN`; commands take it from --token-file or PAR_TOKEN.")]
struct Create {
    /// How it is called in lists and in the audit log
    name: TokenName,

    /// What it may do: admin, deploy, read, call or call:AGENT; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,

    /// A role that agents may require; may be given several times
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<Role>,

    /// For how long it is valid, such as 12h or 30d; without it, until it is revoked
    #[arg(long, value_name = "WHILE", value_parser = a_while)]
    expires: Option<u64>,

    /// Keep it for this user's commands instead of printing it
    #[arg(long)]
    save: bool,

    /// Write it into this state folder, which no supervisor may use meanwhile
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

#[derive(Args)]
struct Revoke {
    /// As `par token list` shows it
    name: TokenName,
}

/// `30d` and the like, in seconds.
fn a_while(text: &str) -> Result<u64, String> {
    let unclear = || "write it like 90s, 15m, 12h, 30d or 4w".to_owned();
    let unit = text.chars().next_back().ok_or_else(unclear)?;
    let number = text.strip_suffix(unit).unwrap_or_default();
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        _ => return Err(unclear()),
    };
    let number: u64 = number.parse().map_err(|_| unclear())?;
    number
        .checked_mul(seconds)
        .filter(|all| *all > 0)
        .ok_or_else(unclear)
}

impl Token {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self.command {
            TokenCommand::Create(create) => create.run(context).await,
            TokenCommand::List => list(context).await,
            TokenCommand::Revoke(revoke) => revoke.run(context).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let request = TokenRequest {
            name: self.name,
            scopes: self.scopes,
            roles: self.roles,
            expires_in_seconds: self.expires,
        };
        let created = match &self.state {
            Some(state) => offline(state, request)?,
            None => {
                context
                    .client
                    .post_json("/supervisor/tokens", &request)
                    .await?
            }
        };
        let terminal = context.terminal;
        if self.save {
            let path = save(context.client.origin(), &created.token)?;
            let (name, url) = (&created.info.name, context.client.origin());
            terminal.note(&format!("token {name} for {url} is in {}", path.display()));
        } else if terminal.json {
            terminal.print_json(&created)?;
            return Ok(());
        } else {
            terminal.print(&created.token)?;
            terminal.note("keep it: it is shown this once");
        }
        for note in &created.notes {
            terminal.note(note);
        }
        Ok(())
    }
}

fn offline(state: &Path, request: TokenRequest) -> Result<TokenCreated, Problem> {
    par_supervisor::create_token(state, request).map_err(|error| {
        let problem = Problem::new(Exit::Failed, "no token was made");
        problem
            .because(error)
            .help("while a supervisor runs, leave --state out: it makes the token itself")
    })
}

impl Revoke {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let path = format!("/supervisor/tokens/{}", segment(self.name.as_str()));
        let done: Done = context.client.delete(&path).await?;
        if context.terminal.json {
            context.terminal.print_json(&done)?;
            return Ok(());
        }
        let line = format!("token {} is of no use any more", self.name);
        context.terminal.print(&line)?;
        Ok(())
    }
}

const COLUMNS: [Column; 4] = [
    column("NAME", 0),
    column("MAY", 0),
    column("ROLES", 1),
    column("EXPIRES", 2),
];

const fn column(title: &'static str, dispensable: u8) -> Column {
    Column {
        title,
        right: false,
        least: None,
        dispensable,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let tokens: Vec<TokenInfo> = context.client.get("/supervisor/tokens").await?;
    if context.terminal.json {
        context.terminal.print_json(&tokens)?;
        return Ok(());
    }
    let table = Table {
        columns: &COLUMNS,
        rows: tokens.iter().map(row).collect(),
    };
    context
        .terminal
        .print(&table.render(context.terminal.out))?;
    Ok(())
}

fn row(token: &TokenInfo) -> Row {
    let expires = match (&token.expires_at, token.expired) {
        (None, _) => Cell::new("never", Style::Faint),
        (Some(at), true) => Cell::new(format!("{at}, which is over"), Style::Bad),
        (Some(at), false) => Cell::new(at, Style::Faint),
    };
    let cells = vec![
        token.name.as_str().into(),
        token.scopes.join(" ").into(),
        token.roles.join(" ").into(),
        expires,
    ];
    Row::new(cells, vec![])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_while_is_a_number_and_its_unit() {
        assert_eq!(a_while("90s"), Ok(90));
        assert_eq!(a_while("30d"), Ok(30 * 24 * 3600));
        for bad in [
            "",
            "d",
            "30",
            "0d",
            "-1d",
            "1y",
            "1.5h",
            "99999999999999999999s",
            "1\u{e4}",
        ] {
            assert!(a_while(bad).is_err(), "{bad}");
        }
    }
}
