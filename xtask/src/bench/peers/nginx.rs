//! nginx with `proxy_pass` and kept connections, in front of the same worker.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use crate::bench::process::{Running, free_address};

pub(crate) struct Nginx {
    _running: Running,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    pub(crate) async fn start(folder: &Path, worker: SocketAddr) -> anyhow::Result<Self> {
        let program = program().context("nginx is not installed")?;
        let home = folder.join("nginx");
        fs::create_dir(&home)?;
        let address = free_address()?;
        let settings = home.join("nginx.conf");
        fs::write(&settings, settings_for(&home, address, worker))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&home).arg("-c").arg(&settings);
        command.arg("-e").arg(home.join("error.log"));
        let mut running = Running::start("nginx", &mut command, &home)?;
        running.listens(address).await?;
        Ok(Self {
            _running: running,
            address,
        })
    }
}

/// Where Debian puts it is on no user's `PATH`.
pub(crate) fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join("nginx"))
        .find(|program| program.is_file())
}

/// Connections are never renewed, as nginx would do by default after each thousandth request.
fn settings_for(home: &Path, address: SocketAddr, worker: SocketAddr) -> String {
    let home = home.display();
    format!(
        "daemon off;
worker_processes auto;
pid {home}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 1000000000;
    upstream worker {{
        server {worker};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}
