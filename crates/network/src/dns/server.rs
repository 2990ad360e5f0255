//! The thread that answers all containers, and passes on what the kernel cannot.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::{Outcome, Transport, answer};
use super::directory::Directory;
use super::forward::{forward, receive_framed, send_framed};
use super::redirect;
use crate::error::NetworkError;
use crate::files::Nameserver;
use crate::port::{Protocol, PublishedPort};
use crate::relay::{relay_connections, relay_packets};

/// Questions that are being asked elsewhere at one time, of all containers (spec runtime §8.4).
const MAX_FORWARDS: usize = 1024;
/// Questions of one container that are being asked elsewhere at one time, so that one container
/// cannot take all.
const MAX_FORWARDS_PER_CLIENT: usize = 256;
/// TCP connections of one container.
const MAX_CONNECTIONS_PER_CLIENT: usize = 64;
/// How long a TCP connection may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest question by UDP; real ones are far below.
const MAX_QUESTION_BYTES: usize = 4096;

/// Who is asked for names that no container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// The servers of the host's resolver file, as it is when a question comes.
    Host,
    /// Servers that the container's user chose.
    Container(Vec<Nameserver>),
}

/// How a container wants its names answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverRequest {
    /// Who is asked for names that no container has.
    pub upstream: Upstream,
    /// True when the user chose `ndots` himself: names of one label are then not asked elsewhere.
    pub ndots_set: bool,
    /// Where an earlier daemon listened.
    pub ports: Option<ResolverPorts>,
}

/// Ports at 127.0.0.11 inside a container's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverPorts {
    /// The UDP port.
    pub udp: u16,
    /// The TCP port.
    pub tcp: u16,
}

/// The thread and what it is told.
pub(crate) struct Resolver {
    directory: Arc<RwLock<Directory>>,
    forwards: Arc<Semaphore>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    worker: Option<JoinHandle<()>>,
}

enum Command {
    Serve(String, UdpSocket, TcpListener, Client),
    Stop(String, std::sync::mpsc::Sender<()>),
    RelayConnections(TcpListener, SocketAddr),
    RelayPackets(String, UdpSocket, SocketAddr),
}

/// What the thread knows of one container.
struct Client {
    id: String,
    upstream: Upstream,
    ndots_set: bool,
    namespace: Option<Arc<OwnedFd>>,
    directory: Arc<RwLock<Directory>>,
    forwards: Arc<Semaphore>,
    own_forwards: Semaphore,
}

impl Resolver {
    /// Starts the thread; it works in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetworkError::Resolver`].
    pub(crate) fn start() -> Result<Resolver, NetworkError> {
        let failed = |source| NetworkError::Resolver {
            action: "start its thread",
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(16)
            .build()
            .map_err(failed)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let worker = std::thread::Builder::new()
            .name("dns".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || runtime.block_on(work(receiver)))
            .map_err(failed)?;
        Ok(Resolver {
            directory: Arc::default(),
            forwards: Arc::new(Semaphore::new(MAX_FORWARDS)),
            commands: Some(commands),
            worker: Some(worker),
        })
    }

    /// Gives the names to change.
    pub(crate) fn directory(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens inside a container's namespace.
    ///
    /// # Errors
    /// [`NetworkError::Resolver`], [`NetworkError::Namespace`].
    pub(crate) fn serve(
        &self,
        container_id: &str,
        namespace: OwnedFd,
        request: &ResolverRequest,
    ) -> Result<ResolverPorts, NetworkError> {
        let (udp, tcp, ports) = redirect::listen(namespace.as_fd(), request.ports)?;
        let client = Client {
            id: container_id.to_owned(),
            upstream: request.upstream.clone(),
            ndots_set: request.ndots_set,
            // Only servers of the container's own are asked from there; a descriptor would keep
            // the namespace of a container that is gone.
            namespace: matches!(request.upstream, Upstream::Container(_))
                .then(|| Arc::new(namespace)),
            directory: Arc::clone(&self.directory),
            forwards: Arc::clone(&self.forwards),
            own_forwards: Semaphore::new(MAX_FORWARDS_PER_CLIENT),
        };
        self.tell(Command::Serve(container_id.to_owned(), udp, tcp, client));
        Ok(ports)
    }

    /// Stops listening for a container; its sockets are closed when this returns.
    pub(crate) fn stop(&self, container_id: &str) {
        let (done, wait) = std::sync::mpsc::channel();
        self.tell(Command::Stop(container_id.to_owned(), done));
        // A thread that is gone has closed everything.
        let _ = wait.recv_timeout(Duration::from_secs(1));
    }

    /// Passes on what comes to a published port: connections until the listening socket is shut down, packets until
    /// [`Resolver::stop_relay`].
    pub(crate) fn relay(&self, port: &PublishedPort, socket: OwnedFd, target: SocketAddr) {
        match port.protocol {
            Protocol::Tcp => self.tell(Command::RelayConnections(socket.into(), target)),
            Protocol::Udp => {
                self.tell(Command::RelayPackets(
                    relay_name(port),
                    socket.into(),
                    target,
                ));
            }
            Protocol::Sctp => {}
        }
    }

    /// Ends passing packets on; the socket is closed when this returns.
    pub(crate) fn stop_relay(&self, port: &PublishedPort) {
        if port.protocol == Protocol::Udp {
            self.stop(&relay_name(port));
        }
    }

    fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // A thread that is gone answers nobody any more; the daemon is ending.
            let _ = commands.send(command);
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing left to clean up.
            let _ = worker.join();
        }
    }
}

async fn work(mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut clients: HashMap<String, AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Serve(id, udp, tcp, client)) => {
                    let handle = tasks.spawn(serve(udp, tcp, Arc::new(client)));
                    if let Some(before) = clients.insert(id, handle) {
                        before.abort();
                    }
                }
                Some(Command::RelayConnections(listener, target)) => {
                    tasks.spawn(relay_connections(listener, target));
                }
                Some(Command::RelayPackets(name, socket, target)) => {
                    let handle = tasks.spawn(relay_packets(socket, target));
                    if let Some(before) = clients.insert(name, handle) {
                        before.abort();
                    }
                }
                Some(Command::Stop(id, done)) => {
                    if let Some(handle) = clients.remove(&id) {
                        handle.abort();
                        // The task's sockets close when it is dropped, which the runtime does when
                        // it gets to it.
                        while !handle.is_finished() {
                            tokio::task::yield_now().await;
                        }
                    }
                    // Who has stopped waiting does not care.
                    let _ = done.send(());
                }
            },
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// Names a relay among the containers that are answered; no container's identifier looks so.
fn relay_name(port: &PublishedPort) -> String {
    format!("relay {} {}", port.host_ip, port.host_port)
}

/// Answers one container until it is aborted.
async fn serve(udp: UdpSocket, tcp: TcpListener, client: Arc<Client>) {
    let (Ok(udp), Ok(tcp)) = (
        tokio::net::UdpSocket::from_std(udp),
        tokio::net::TcpListener::from_std(tcp),
    ) else {
        return;
    };
    let udp = Arc::new(udp);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS_PER_CLIENT));
    // Dropped with this task, and everything in it with it.
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; MAX_QUESTION_BYTES];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                let Ok((length, peer)) = received else {
                    // An answer could not be delivered; nothing else fails here.
                    tokio::task::yield_now().await;
                    continue;
                };
                let bytes = buffer.get(..length).unwrap_or_default();
                match client.answer(bytes, Transport::Udp) {
                    Outcome::Reply(reply) => {
                        let _client_asks_again = udp.try_send_to(&reply, peer);
                    }
                    Outcome::Forward(question) => {
                        let (udp, client) = (Arc::clone(&udp), Arc::clone(&client));
                        tasks.spawn(async move {
                            let reply = client.ask_elsewhere(&question, Transport::Udp).await;
                            let _client_asks_again = udp.send_to(&reply, peer).await;
                        });
                    }
                    Outcome::Ignore => {}
                }
            }
            accepted = tcp.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                // Past the limit the connection is closed at once.
                if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
                    let client = Arc::clone(&client);
                    tasks.spawn(async move {
                        let _ended = client.converse(stream).await;
                        drop(permit);
                    });
                }
            }
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

impl Client {
    fn answer(&self, bytes: &[u8], transport: Transport) -> Outcome {
        let directory = self
            .directory
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        answer(&directory, &self.id, self.ndots_set, bytes, transport)
    }

    async fn ask_elsewhere(
        &self,
        question: &super::answer::Question,
        transport: Transport,
    ) -> Vec<u8> {
        let permits = (self.forwards.try_acquire(), self.own_forwards.try_acquire());
        let (Ok(_one_of_all), Ok(_one_of_own)) = permits else {
            return question.failure(ResponseCode::Refused);
        };
        let may_leave = self
            .directory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .may_forward(&self.id);
        forward(
            question,
            transport,
            &self.upstream,
            self.namespace.as_ref(),
            may_leave,
        )
        .await
        .unwrap_or_else(|| question.failure(ResponseCode::ServFail))
    }

    /// Answers question after question of one connection.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let bytes = timeout(IDLE_TIMEOUT, receive_framed(&mut stream)).await??;
            let reply = match self.answer(&bytes, Transport::Tcp) {
                Outcome::Reply(reply) => reply,
                Outcome::Forward(question) => self.ask_elsewhere(&question, Transport::Tcp).await,
                Outcome::Ignore => return Ok(()),
            };
            timeout(IDLE_TIMEOUT, send_framed(&mut stream, &reply)).await??;
        }
    }
}
