//! Over gRPC: `pixell.agent.AgentService/Invoke` with an action that is an `async def`.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::Context as _;

use super::{Calls, Ways, bring_up, compare};
use crate::bench::call::Call;
use crate::bench::extent::Extent;
use crate::bench::grpc::messages::{ActionRequest, ActionResult, INVOKE};
use crate::bench::grpc::{GrpcCall, Request};
use crate::bench::peers::grpc_aio::GrpcAio;
use crate::bench::peers::{Open, Way};
use crate::bench::workshop::Workshop;

const AGENT: &str = "actions";
const SURFACE: &str = "a2a:\n  service: src.main:service";
const SOURCE: &str = "async def echo(parameters):\n    return parameters[\"x\"]\n\n\n\
    def service():\n    return {\"custom_handlers\": {\"echo\": echo}}\n";

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Calls> {
    let supervisor = workshop.supervisor().await?;
    let package = workshop.package_with(SURFACE, SOURCE).await?;
    let worker = bring_up(&supervisor, AGENT, &package).await?;
    let worker_address = SocketAddr::from((Ipv4Addr::LOCALHOST, worker.grpc_port));
    let environment = workshop.grpc_environment();
    let descriptors = workshop.descriptors();
    let aio = GrpcAio::start(workshop.folder(), &environment, &descriptors).await;
    let mut ways = Ways::default();
    let direct = open_way(Way::WorkerGrpc, worker_address, None).await?;
    let through = open_way(Way::SupervisorGrpc, supervisor.address, Some(AGENT)).await?;
    ways.open.extend([direct, through]);
    match aio.as_ref() {
        Ok(aio) => ways
            .open
            .push(open_way(Way::GrpcAio, aio.address, None).await?),
        Err(error) => ways.miss(Way::GrpcAio, error),
    }
    compare(
        "gRPC calls",
        ways,
        Way::SupervisorGrpc,
        &supervisor,
        &worker,
        extent,
    )
    .await
}

async fn open_way(way: Way, address: SocketAddr, agent: Option<&str>) -> anyhow::Result<Open> {
    let asked = ActionRequest {
        action: "echo".to_owned(),
        parameters: [("x".to_owned(), "1".to_owned())].into(),
        request_id: "bench".to_owned(),
    };
    let expected = ActionResult {
        success: true,
        result: "1".to_owned(),
        request_id: "bench".to_owned(),
    };
    let request = Request::new(INVOKE, agent, &asked)?;
    let call = GrpcCall::prove(address, vec![request], &expected).await;
    let call = call.with_context(|| format!("the first call: {}", way.words()))?;
    Ok(Open {
        way,
        call: Call::Grpc(Rc::new(call)),
    })
}
