//! A tunnel to one address. What goes through it is not read, but for its first bytes: TLS has to be for the host that the
//! tunnel is to.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use par_model::network::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::hello::{Ear, Heard, is_for};
use crate::meter::{Metered, Silence};
use crate::refusal::Refusal;
use crate::route;
use crate::serve::House;

/// Here nothing but TLS is spoken. Elsewhere it is recognised when it is.
const TLS_PORTS: [u16; 2] = [443, 8443];
/// For a whole ClientHello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
const PIECE: usize = 8 << 10;

pub(crate) struct Tunnel {
    host: Host,
    port: u16,
    upgrade: OnUpgrade,
    server: Metered<TcpStream>,
    silence: Silence,
}

pub(crate) async fn open(
    house: &Rc<House>,
    host: Host,
    port: u16,
    upgrade: OnUpgrade,
) -> Result<Tunnel, Refusal> {
    let policy = house.policy();
    let way = policy.tunnel(&host, port)?;
    let addresses = route::addresses(&policy, &house.resolver, &way).await?;
    let stream = route::connect(&addresses, &way).await?;
    house.figures.connected();
    let (server, silence) = Metered::new(stream, Rc::clone(&house.figures));
    Ok(Tunnel {
        host,
        port,
        upgrade,
        server,
        silence,
    })
}

/// Why a tunnel ended before its time.
enum Cut {
    Refused(Refusal),
    Broken(io::Error),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Tunnel {
    pub(crate) async fn run(self, house: &House) {
        let silence = self.silence.clone();
        let cut = tokio::select! {
            passed = self.pass() => passed.err(),
            () = silence.is_too_long() => {
                debug!("a tunnel through which nothing went was closed");
                None
            }
        };
        match cut {
            Some(Cut::Refused(refusal)) => drop(house.refuse(&refusal)),
            Some(Cut::Broken(error)) => debug!(%error, "a tunnel broke"),
            None => {}
        }
    }

    async fn pass(mut self) -> Result<(), Cut> {
        let client = (&mut self.upgrade).await.map_err(io::Error::other)?;
        let mut client = TokioIo::new(client);
        let first = self.first_words(&mut client).await?;
        self.server.write_all(&first).await?;
        copy_bidirectional(&mut client, &mut self.server).await?;
        Ok(())
    }

    /// What the client says first, looked at. Servers of some protocols speak before that.
    async fn first_words(&mut self, client: &mut TokioIo<Upgraded>) -> Result<Vec<u8>, Cut> {
        let only_tls = TLS_PORTS.contains(&self.port);
        let mut piece = [0; PIECE];
        let length = match only_tls {
            true => match timeout(HELLO_WITHIN, client.read(&mut piece)).await {
                Ok(length) => length?,
                Err(_) => return Err(self.not_tls()),
            },
            false => self.let_the_server_begin(client, &mut piece).await?,
        };
        let mut ear = Ear::new();
        let mut heard = ear.hear(&piece[..length]);
        if length > 0 && heard == Heard::More {
            let rest = async {
                while heard == Heard::More {
                    match client.read(&mut piece).await? {
                        0 => heard = Heard::NotTls,
                        length => heard = ear.hear(&piece[..length]),
                    }
                }
                io::Result::Ok(())
            };
            let in_time = timeout(HELLO_WITHIN, rest).await;
            in_time.map_err(|_| self.not_tls())??;
        }
        match heard {
            Heard::Hello(named) if !is_for(named.as_deref(), &self.host) => {
                let host = self.host.clone();
                Err(Cut::Refused(Refusal::ServerName { host, named }))
            }
            // It looked like TLS, or had to, and was none.
            Heard::NotTls | Heard::More if only_tls && length > 0 => Err(self.not_tls()),
            Heard::NotTls if ear.began_as_tls() => Err(self.not_tls()),
            _ => Ok(ear.into_heard()),
        }
    }

    /// Passes on what the server says until the client says something.
    async fn let_the_server_begin(
        &mut self,
        client: &mut TokioIo<Upgraded>,
        piece: &mut [u8],
    ) -> io::Result<usize> {
        let mut from_server = [0; PIECE];
        let mut server_speaks = true;
        loop {
            tokio::select! {
                length = client.read(piece) => return length,
                length = self.server.read(&mut from_server), if server_speaks => match length? {
                    0 => {
                        server_speaks = false;
                        client.shutdown().await?;
                    }
                    length => client.write_all(&from_server[..length]).await?,
                },
            }
        }
    }

    fn not_tls(&self) -> Cut {
        Cut::Refused(Refusal::NotTls {
            host: self.host.clone(),
            port: self.port,
        })
    }
}
