//! A plain web server on loopback for what builds fetch.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Serves files from memory until it is dropped.
pub struct Web {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What is served at a path.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub content: Vec<u8>,
    /// Further lines of the answer's head.
    pub headers: Vec<String>,
}

impl Web {
    /// Serves pages by their path (`/name`).
    pub fn serve(pages: BTreeMap<String, Page>) -> Self {
        Self::serve_in(pages, None)
    }

    /// The same in the network namespace that a path names.
    pub fn serve_in(pages: BTreeMap<String, Page>, namespace: Option<&Path>) -> Self {
        let listener = in_network(namespace, || TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let pages = Arc::new(pages);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let pages = Arc::clone(&pages);
                // A client that goes away is no failure of the server.
                std::thread::spawn(move || drop(answer(stream, &pages)));
            }
        });
        Self {
            address,
            is_over,
            thread: Some(thread),
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of a path.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It waits for a connection; in another network it is left to wait for one.
        if TcpStream::connect(self.address).is_ok() {
            let _ended = self.thread.take().map(std::thread::JoinHandle::join);
        }
    }
}

/// Calls a function on a thread in the network namespace that a path names, or in this one.
pub fn in_network<T: Send>(namespace: Option<&Path>, call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(path) = namespace {
                let file = std::fs::File::open(path).unwrap();
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap();
            }
            call()
        });
        thread.join().unwrap()
    })
}

fn answer(mut stream: TcpStream, pages: &BTreeMap<String, Page>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (status, page) = match pages.get(path) {
        Some(page) => ("200 OK", page.clone()),
        None => ("404 Not Found", Page::default()),
    };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n",
        page.content.len()
    );
    for header in &page.headers {
        head += &format!("{header}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if method != Some("HEAD") {
        stream.write_all(&page.content)?;
    }
    Ok(())
}
