//! Connections to an SSH server that are held without logging in.

use std::{
    io::{ErrorKind, Read as _},
    net::{SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use super::waiting::DEADLINE;

/// A connection that has read the server's version, from this local address; it sends nothing.
pub fn held(server: SocketAddr, from: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut line = [0; 4];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"SSH-");
    stream
}

/// Whether the server has closed a connection.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}
