//! What the demo shows: agents come up, are healthy, talk, and run code.

use std::path::Path;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use par_model::Tier;
use par_model::api::{AgentHealth, DeployOptions, Deployed, FleetHealth};
use serde_json::value::RawValue;

use crate::bundled::Example;
use crate::command::Context;
use crate::command::deploy::{Outcome, Until, deploy};
use crate::command::exec::{Asked, Session};
use crate::command::packing::Package;
use crate::exit::{Exit, Problem};
use crate::terminal::{Cell, Column, Row, Style, Table};

const CAST: [(&str, Example); 3] = [
    ("agent-a", Example::Asker),
    ("agent-b", Example::Hello),
    ("python", Example::Python),
];
const QUESTION: &str = r#"{"agent": "agent-b", "name": "Ada"}"#;
const CODE: &str = "sum(range(10))";

const COLUMNS: [Column; 4] = [
    column("AGENT", 0),
    column("HEALTH", 0),
    column("HTTP", 0),
    column("GRPC PORT", 1),
];

const fn column(title: &'static str, dispensable: u8) -> Column {
    Column {
        title,
        right: false,
        least: None,
        dispensable,
    }
}

pub(super) struct Story<'a> {
    context: &'a Context,
    folder: &'a Path,
}

impl<'a> Story<'a> {
    pub(super) fn new(context: &'a Context, folder: &'a Path) -> Self {
        Self { context, folder }
    }

    pub(super) async fn tell(&self) -> anyhow::Result<()> {
        let terminal = self.context.terminal;
        let mut agents = vec![];
        for (name, example) in CAST {
            agents.push(self.bring_up(name, example).await?);
        }
        let health: FleetHealth = self.context.client.get("/supervisor/health").await?;
        if !terminal.json {
            let url = self.context.client.origin();
            terminal.print(&format!("A supervisor is up at {url} with three agents.\n"))?;
            terminal.print(&table(&agents, &health).render(terminal.out))?;
        }
        if health.status != "healthy" {
            return Err(Problem::new(Exit::Failed, "an agent is not healthy").into());
        }
        let answer = self.ask().await?;
        let value = self.execute().await?;
        if terminal.json {
            return Ok(terminal.print_json(&serde_json::json!({
                "url": self.context.client.origin().to_string(),
                "agents": agents,
                "health": health,
                "answer": serde_json::from_slice::<Box<RawValue>>(&answer)?,
                "value": serde_json::from_str::<Box<RawValue>>(&value)?,
            }))?);
        }
        let question = self.context.par(&format!("call agent-a ask '{QUESTION}'"));
        let answer = String::from_utf8_lossy(&answer);
        terminal.print(&format!(
            "\nagent-a asks agent-b:\n  $ {question}\n  {answer}"
        ))?;
        let exec = self.context.par(&format!("exec python -c '{CODE}'"));
        terminal.print(&format!("\npython runs code:\n  $ {exec}\n  {value}"))?;
        Ok(())
    }

    /// What to try while the demo serves.
    pub(super) fn invite(&self) -> anyhow::Result<()> {
        let terminal = self.context.terminal;
        if terminal.json {
            return Ok(());
        }
        let url = self.context.client.origin();
        let lines = [
            self.context.par("ps"),
            self.context.par(r#"call agent-b '{"name": "Grace"}'"#),
            format!(r#"curl {url}/agents/agent-b/invoke -d '{{"name": "Grace"}}'"#),
            self.context.par("exec python"),
            format!("curl {url}/supervisor/status"),
            self.context.par("logs -f"),
        ];
        terminal.print(&format!(
            "\nTry, in another terminal:\n  {}\n\nCtrl-C ends the demo and all that it started.",
            lines.join("\n  ")
        ))?;
        Ok(())
    }

    async fn bring_up(&self, name: &str, example: Example) -> anyhow::Result<Deployed> {
        let source = self.folder.join(name);
        example.write(&source, example.name())?;
        let package = Package::of(&source, self.context.terminal).await?;
        let options = DeployOptions {
            agent_id: Some(name.to_owned()),
            ..DeployOptions::default()
        };
        match deploy(self.context, &package, &options, Until::Answering).await? {
            Outcome::Answering(deployed) => Ok(deployed),
            Outcome::Accepted { package_id } => {
                let message = format!("{package_id} was accepted, but {name} is not up");
                Err(Problem::new(Exit::Failed, message).into())
            }
        }
    }

    async fn ask(&self) -> anyhow::Result<Bytes> {
        let client = &self.context.client;
        let request = client
            .request(Method::POST, "/agents/agent-a/exports/ask")
            .header(http::header::CONTENT_TYPE, "application/json");
        let answer = client.send(request, Full::from(QUESTION)).await?;
        Ok(answer.success().await?.bytes().await?)
    }

    /// The value of the code, in JSON.
    async fn execute(&self) -> anyhow::Result<String> {
        let session = Session::open(self.context, "python".to_owned(), None).await?;
        let asked = Asked {
            code: CODE.to_owned(),
            timeout: None,
            tier: Tier::Small,
        };
        let ended = session.execute(&asked).await?.ended().await;
        session.close().await;
        let value = ended?.outcome.value().map(str::to_owned);
        value.ok_or_else(|| Problem::new(Exit::Failed, format!("`{CODE}` had no value")).into())
    }
}

fn table(agents: &[Deployed], health: &FleetHealth) -> Table<'static> {
    let row = |agent: &Deployed| {
        let (word, style) = match health.agent_health.get(&agent.agent_id) {
            Some(AgentHealth::Healthy { .. }) => ("healthy", Style::Good),
            _ => ("not healthy", Style::Bad),
        };
        let cells = vec![
            Cell::new(&agent.agent_id, Style::Strong),
            Cell::new(word, style),
            format!("http://127.0.0.1:{}", agent.port).into(),
            agent.grpc_port.to_string().into(),
        ];
        Row::new(cells, vec![])
    };
    Table {
        columns: &COLUMNS,
        rows: agents.iter().map(row).collect(),
    }
}
