//! What every gRPC server is expected to answer: health, and reflection of what it serves.

use std::cell::RefCell;

use futures_util::future::LocalBoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use par_protocol::protobuf::{DESCRIPTORS, agent, python_agent};
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::codegen::Service as _;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder;
use tracing::warn;

use super::reply::Reply;

const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
/// What older clients ask.
const REFLECTION_BEFORE: &str = "grpc.reflection.v1alpha.ServerReflection";

type Answerer = Box<dyn Fn(Request<Incoming>) -> LocalBoxFuture<'static, Response<Reply>>>;

pub(crate) struct Standard {
    reporter: HealthReporter,
    health: Answerer,
    /// Made when somebody asks: few do, and it takes memory.
    reflection: RefCell<Option<Reflection>>,
    described: RefCell<Described>,
}

/// What reflection tells of.
#[derive(Clone, Default)]
struct Described {
    with_execution: bool,
    own: Vec<String>,
    descriptors: Vec<Vec<u8>>,
}

struct Reflection {
    now: Answerer,
    before: Answerer,
}

/// A service of tonic, as a function.
macro_rules! answerer {
    ($server:expr) => {{
        let server = $server;
        Box::new(move |request| {
            let mut server = server.clone();
            Box::pin(async move {
                let answered = server.call(request).await;
                let answered = answered.unwrap_or_else(|never| match never {});
                answered.map(|body| Reply::ours(body, None))
            })
        })
    }};
}

impl Default for Standard {
    fn default() -> Self {
        let (reporter, health) = tonic_health::server::health_reporter();
        Self {
            reporter,
            health: answerer!(health),
            reflection: RefCell::default(),
            described: RefCell::default(),
        }
    }
}

impl Standard {
    /// Says of all services, and of the server as a whole (the empty name), whether they serve. Nothing is said any more of
    /// those that the agent `had` and has no longer.
    pub(crate) async fn report(&self, serving: bool, own: &[String], had: &[String]) {
        let mut reporter = self.reporter.clone();
        for service in had.iter().filter(|service| !own.contains(service)) {
            reporter.clear_service_status(service).await;
        }
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        let ours = self.described.borrow().ours();
        for service in ours.chain([String::new()]).chain(own.iter().cloned()) {
            reporter.set_service_status(service, status).await;
        }
    }

    /// From now on the execution backend is told of too.
    pub(crate) fn offer_execution(&self) {
        self.described.borrow_mut().with_execution = true;
        self.reflection.replace(None);
    }

    /// From now on the agent's own services are told of, with these `FileDescriptorProto`s.
    pub(crate) fn describe(&self, own: Vec<String>, descriptors: Vec<Vec<u8>>) {
        let mut described = self.described.borrow_mut();
        described.own = own;
        described.descriptors = descriptors;
        self.reflection.replace(None);
    }

    pub(super) async fn answer(
        &self,
        service: &str,
        request: Request<Incoming>,
    ) -> Option<Response<Reply>> {
        let answered = match service {
            HEALTH => (self.health)(request),
            REFLECTION => self.reflect(|reflection| (reflection.now)(request)),
            REFLECTION_BEFORE => self.reflect(|reflection| (reflection.before)(request)),
            _ => return None,
        };
        Some(answered.await)
    }

    fn reflect<T>(&self, answer: impl FnOnce(&Reflection) -> T) -> T {
        let mut reflection = self.reflection.borrow_mut();
        answer(reflection.get_or_insert_with(|| self.described.borrow().reflection()))
    }
}

impl Described {
    /// Those of our services that this agent has.
    fn ours(&self) -> impl Iterator<Item = String> + use<> {
        let execution = self.with_execution.then_some(python_agent::SERVICE);
        let ours = [agent::SERVICE].into_iter().chain(execution);
        ours.map(str::to_owned)
    }
}

impl Described {
    /// Without the agent's own descriptors where those are not whole.
    fn reflection(&self) -> Reflection {
        reflection(self).unwrap_or_else(|error| {
            warn!(%error, "the descriptors of the agent's services are not used");
            let ours = Self {
                descriptors: vec![],
                ..self.clone()
            };
            reflection(&ours).expect("our own descriptors are whole")
        })
    }
}

fn reflection(described: &Described) -> Result<Reflection, tonic_reflection::server::Error> {
    let own_set = DescriptorSet {
        files: described
            .descriptors
            .iter()
            .cloned()
            .map(Bytes::from)
            .collect(),
    };
    let own_set = own_set.encode_to_vec();
    let builder = || {
        let own = described.own.iter().cloned();
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(&own_set);
        let names = described.ours().chain([HEALTH.to_owned()]).chain(own);
        names.fold(builder, |builder, name| builder.with_service_name(name))
    };
    Ok(Reflection {
        now: answerer!(builder().build_v1()?),
        before: answerer!(builder().build_v1alpha()?),
    })
}

/// A `FileDescriptorSet` whose files are not read.
#[derive(Clone, PartialEq, prost::Message)]
struct DescriptorSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}
