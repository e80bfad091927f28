//! Requests to the HTTP API, with curl.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use super::{
    command::{run, run_with},
    waiting::eventually,
    world::World,
};

/// A client with a token.
pub struct Api {
    pub base: String,
    pub token: String,
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl World {
    /// A client with a token of the user `dev`, an admin.
    pub fn api(&self) -> Api {
        self.api_with(&["laptop"])
    }

    /// A client with a token that is created with these words.
    pub fn api_with(&self, words: &[&str]) -> Api {
        let token = self.ssh(&[&["tokens:create"], words].concat()).success().out.trim().to_owned();
        Api { base: format!("http://127.0.0.1:{}", self.http_port), token }
    }
}

impl Api {
    /// A request, not sent yet.
    pub fn curl(&self, method: &str, path: &str, more: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--max-time", "120", "-X", method]);
        if !self.token.is_empty() {
            command.args(["-H", &format!("Authorization: Bearer {}", self.token)]);
        }
        command.args(more).arg(format!("{}{path}", self.base));
        command
    }

    /// The response to a request with these options of curl.
    pub fn send(&self, method: &str, path: &str, more: &[&str]) -> Response {
        Response::read(&run(&mut self.curl(method, path, more)).success().out)
    }

    /// The same with a body from standard input.
    pub fn send_body(&self, method: &str, path: &str, more: &[&str], body: &[u8]) -> Response {
        let mut command = self.curl(method, path, &[&["-H", "Expect:", "--data-binary", "@-"], more].concat());
        Response::read(&run_with(&mut command, body).success().out)
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[])
    }

    /// A request with a JSON body.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Response {
        self.send(method, path, &["--json", &body.to_string()])
    }

    /// The document of an operation that takes long, once it has ended.
    pub fn ended(&self, accepted: &Response) -> Value {
        assert_eq!(accepted.status, 202, "{accepted:?}");
        eventually("the operation has ended", || {
            let document = self.send("GET", &accepted.headers["location"], &["-H", "Prefer: wait=30"]).json();
            (document["state"] != "running").then_some(document)
        })
    }
}

impl Response {
    pub fn read(text: &str) -> Self {
        // curl prints interim responses, too.
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(text);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: body.to_owned() }
    }

    /// The body, if the response has this status.
    pub fn with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the response is a problem with this status and kind, whose detail contains this.
    pub fn problem(&self, status: u16, kind: &str, detail: &str) {
        assert_eq!(self.headers.get("content-type").map(String::as_str), Some("application/problem+json"), "{self:?}");
        let document = self.with(status);
        assert_eq!(document["kind"], kind, "{document}");
        assert_eq!(document["status"], status, "{document}");
        assert_eq!(document["request_id"].as_str(), Some(&*self.headers["x-request-id"]), "{document}");
        assert!(document["detail"].as_str().unwrap().contains(detail), "{document}");
    }
}
