//! Which surface answers a request. The runtime's own paths win over the agent's.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use par_door::{Names, settle_host};
use par_model::CallError;
use par_model::control::{CallLimits, OwnPorts};
use par_protocol::frame::Frame;
use par_protocol::harness::Serves;
use par_telemetry::metrics::Format;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tracing::warn;

use super::body::Answer;
use super::door::Door;
use super::ui::Ui;
use super::{answer, asgi, call, sessions, websocket};
use crate::admission::Admission;
use crate::egress::Outlet;
use crate::figures::{Figures, Now, Tallied};
use crate::grpc::{Outward, Own, Standard};
use crate::idle::Idle;
use crate::serving::Serving;
use crate::sessions::Sessions;

/// What is known of the agent before it answers.
pub(crate) struct About {
    pub(crate) agent: par_model::AgentId,
    pub(crate) package_id: String,
    pub(crate) port: u16,
    pub(crate) grpc_port: u16,
    /// Where the supervisor passes calls on to it.
    pub(crate) url: String,
    pub(crate) own_ports: Rc<Cell<OwnPorts>>,
    pub(crate) package: RefCell<Option<AboutPackage>>,
}

/// What is known once the package was read.
pub(crate) struct AboutPackage {
    pub(crate) label: String,
    pub(crate) meta: serde_json::Value,
    pub(crate) ui: Option<Rc<Ui>>,
}

pub(crate) struct Front {
    pub(crate) about: About,
    pub(crate) admission: Rc<Admission>,
    names: Names,
    pub(crate) idle: Rc<Idle>,
    pub(crate) own: Own,
    pub(crate) outward: Outward,
    pub(crate) standard: Standard,
    pub(crate) figures: Figures,
    serving: RefCell<Option<Rc<Serving>>>,
    /// There once it is known whether the agent wants the execution backend, and with what.
    sessions: RefCell<Option<Rc<Sessions>>>,
    outlet: RefCell<Option<Rc<Outlet>>>,
}

impl Front {
    pub(crate) fn new(
        about: About,
        limits: CallLimits,
        names: Names,
        idle: Rc<Idle>,
        own: Own,
        outward: Outward,
    ) -> Rc<Self> {
        Rc::new(Self {
            about,
            admission: Admission::new(limits, Rc::clone(&idle)),
            names,
            idle,
            own,
            outward,
            standard: Standard::default(),
            figures: Figures::default(),
            serving: RefCell::default(),
            sessions: RefCell::default(),
            outlet: RefCell::default(),
        })
    }

    /// From now on calls go to the agent.
    pub(crate) async fn serve(&self, serving: Rc<Serving>) {
        self.serving.replace(Some(serving));
        self.report(&[]).await;
    }

    /// From now on new calls are refused.
    pub(crate) async fn withdraw(&self) {
        self.serving.replace(None);
        self.report(&[]).await;
    }

    /// What goes through it is on the page of figures.
    pub(crate) fn has_outlet(&self, outlet: Rc<Outlet>) {
        self.outlet.replace(Some(outlet));
    }

    /// From now on code runs in sessions.
    pub(crate) fn offer(&self, sessions: Rc<Sessions>) {
        self.standard.offer_execution();
        self.sessions.replace(Some(sessions));
    }

    pub(crate) fn sessions(&self) -> Option<Rc<Sessions>> {
        self.sessions.borrow().clone()
    }

    /// The agent says what its own gRPC server serves.
    pub(crate) async fn hear(&self, frame: &Frame) {
        let serves: Serves = match serde_json::from_slice(&frame.body) {
            Ok(serves) => serves,
            Err(error) => return warn!(%error, "the agent's services were not understood"),
        };
        let had = self.own.services();
        let descriptors = self.own.announce(&serves);
        self.standard.describe(self.own.services(), descriptors);
        self.report(&had).await;
    }

    async fn report(&self, had: &[String]) {
        let serves = self.serving.borrow().is_some();
        let own = self.own.services();
        self.standard.report(serves, &own, had).await;
    }

    pub(crate) async fn handle(
        self: Rc<Self>,
        door: Door,
        mut request: Request<Incoming>,
    ) -> Result<Response<Tallied<Answer>>, Infallible> {
        if let Err(error) = self.check(&door, &mut request) {
            let mut refusal = answer::refusal(&error);
            // Whoever is this unclear is not asked what came next.
            let close = HeaderValue::from_static("close");
            refusal.headers_mut().insert(CONNECTION, close);
            return Ok(Tallied::http(refusal, None));
        }
        let has_sessions = self.sessions.borrow().is_some();
        let surface = Figures::surface(request.uri().path(), has_sessions);
        let tally = surface.and_then(|surface| self.figures.begin(surface));
        let answered = self.route(&door, request).await;
        let response = answered.unwrap_or_else(|error| answer::refusal(&error));
        Ok(Tallied::http(response, tally))
    }

    /// What comes from the supervisor was checked there.
    pub(crate) fn check<B>(&self, door: &Door, request: &mut Request<B>) -> Result<(), CallError> {
        if !door.is_public() {
            return Ok(());
        }
        if self.about.own_ports.get() == OwnPorts::Closed {
            return Err(CallError::Forbidden(format!(
                "everybody needs a token here, and the agent's own ports cannot tell who has one: call {}",
                self.about.url
            )));
        }
        settle_host(request)?;
        self.names.admit_request(request.headers())
    }

    async fn route(
        &self,
        door: &Door,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallError> {
        let path = request.uri().path();
        match path {
            "/health" => {
                Ok(only(request.method(), &READ, "GET, HEAD").unwrap_or_else(|| self.health()))
            }
            "/meta" => {
                Ok(only(request.method(), &READ, "GET, HEAD").unwrap_or_else(|| self.meta()))
            }
            OWN_METRICS => self.metrics(&request).await,
            "/metrics" if self.has_no_application() => self.metrics(&request).await,
            "/invoke" => self.invoke(door, request).await,
            _ if path.starts_with("/exports/") => self.export(door, request).await,
            _ if is_below(path, "/sessions") && self.sessions().is_some() => {
                self.session(request).await
            }
            _ if is_below(path, "/ui") => self.ui_or_application(door, request).await,
            _ => self.application(door, request).await,
        }
    }

    pub(crate) fn serving(&self) -> Result<Rc<Serving>, CallError> {
        let not_ready = || CallError::NotReady(self.about.agent.clone());
        self.serving.borrow().clone().ok_or_else(not_ready)
    }

    async fn invoke(
        &self,
        door: &Door,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallError> {
        if let Some(refused) = only(request.method(), &[Method::POST], "POST") {
            return Ok(refused);
        }
        let serving = self.serving()?;
        if !serving.can_be_invoked() {
            return Err(CallError::UnknownPath);
        }
        call::call(&serving, "", door, request).await
    }

    async fn export(
        &self,
        door: &Door,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallError> {
        if let Some(refused) = only(request.method(), &[Method::POST], "POST") {
            return Ok(refused);
        }
        let raw = request
            .uri()
            .path()
            .strip_prefix("/exports/")
            .unwrap_or_default();
        let name = percent_decode_str(raw).decode_utf8_lossy().into_owned();
        let serving = self.serving()?;
        if !serving.has_export(&name, door.caller_is_agent(request.headers())) {
            return Err(CallError::UnknownExport(name.chars().take(200).collect()));
        }
        call::call(&serving, &name, door, request).await
    }

    async fn session(&self, request: Request<Incoming>) -> Result<Response<Answer>, CallError> {
        let sessions = self.sessions().ok_or(CallError::UnknownPath)?;
        sessions::answer(&sessions, &self.admission, request).await
    }

    async fn ui_or_application(
        &self,
        door: &Door,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallError> {
        let ui = self
            .about
            .package
            .borrow()
            .as_ref()
            .and_then(|package| package.ui.clone());
        match ui {
            Some(ui) => {
                ui.answer(request.method(), request.uri().path(), request.headers())
                    .await
            }
            None => self.application(door, request).await,
        }
    }

    async fn application(
        &self,
        door: &Door,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallError> {
        let serving = self.serving()?;
        if !serving.ready.asgi {
            return Err(CallError::UnknownPath);
        }
        if websocket::is_asked_for(request.headers()) {
            return websocket::open(&serving, door, request).await;
        }
        asgi::forward(&serving, door, request).await
    }

    fn health(&self) -> Response<Answer> {
        let serving = self.serving.borrow();
        let package = self.about.package.borrow();
        let (status, word) = match &*serving {
            Some(_) => (StatusCode::OK, "healthy"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        };
        let agent_status = serving.as_ref().map(|serving| {
            json!({
                "adapter": serving.ready.adapter,
                "exports": serving.ready.exports,
                "asgi": serving.ready.asgi,
                "in_flight": serving.admission.in_flight(),
                "frozen": self.idle.is_frozen(),
                "actions": serving.ready.actions,
                "sessions": self.sessions().map(|sessions| sessions.count()),
            })
        });
        let body = json!({
            "status": word,
            "agent_id": self.about.agent,
            "port": self.about.port,
            "grpc_port": self.about.grpc_port,
            "grpc_enabled": true,
            "package": package.as_ref().map(|package| &package.label),
            "package_id": self.about.package_id,
            "agent_status": agent_status,
        });
        answer::json(status, &body)
    }

    fn has_no_application(&self) -> bool {
        let serving = self.serving.borrow();
        serving.as_ref().is_some_and(|serving| !serving.ready.asgi)
    }

    /// Written without the agent's help.
    async fn metrics(&self, request: &Request<Incoming>) -> Result<Response<Answer>, CallError> {
        if let Some(refused) = only(request.method(), &READ, "GET, HEAD") {
            return Ok(refused);
        }
        let accept = request.headers().get(ACCEPT);
        let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
        let usage = tokio::task::spawn_blocking(|| {
            let own = std::process::id();
            let all = par_sandbox::usage(&par_sandbox::process_table(), own)?;
            Some((all, par_sandbox::usage(&[], own)?))
        });
        let usage = usage.await.ok().flatten();
        let now = Now {
            in_flight: self.admission.in_flight(),
            waiting: self.admission.waiting(),
            sessions: self.sessions().map(|sessions| sessions.count()),
            egress: self.outlet.borrow().as_ref().map(|it| it.figures()),
        };
        let page = self.figures.write(format, &now, usage);
        let mut response = answer::json_text(StatusCode::OK, page.into());
        let kind = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }

    fn meta(&self) -> Response<Answer> {
        match &*self.about.package.borrow() {
            Some(package) => answer::json(StatusCode::OK, &package.meta),
            None => answer::refusal(&CallError::NotReady(self.about.agent.clone())),
        }
    }
}

/// The worker's own page, whatever the agent serves.
const OWN_METRICS: &str = "/.par/metrics";

const READ: [Method; 2] = [Method::GET, Method::HEAD];

/// The refusal of a method that is not among `allowed`.
fn only(method: &Method, allowed: &[Method], names: &'static str) -> Option<Response<Answer>> {
    (!allowed.contains(method)).then(|| answer::wrong_method(names))
}

/// Whether a path is `folder` or leads below it.
fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
