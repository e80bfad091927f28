//! Where the HTTP API has an operation: its method, its paths, and how a request is its input.

/// Method of an endpoint (RFC 9110, section 9; RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes something, or acts.
    Post,
    /// Sets the whole of something.
    Put,
    /// Changes a part of something.
    Patch,
    /// Removes something.
    Delete,
}

impl Method {
    /// Name in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none: all fields of the input are in the path and the query.
    None,
    /// An object with the fields of the input that are not in the path.
    Fields,
    /// The value of this field; the others are in the path and the query.
    Field(&'static str),
    /// A file that the operation reads as its standard input; all fields are in the path and the query.
    File,
    /// A file if it is not JSON, otherwise an object with the fields of the input that are not in the path.
    FileOrFields,
}

/// How many pages a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// One: the result is no list, or a short one.
    One,
    /// As many as the caller asks for: the list is in ascending order of this field of its rows, a text.
    By(&'static str),
    /// The same for a list that begins with the newest row: the fields `num` and `before` of the input select the rows, and
    /// `before` takes this field of a row.
    Before(&'static str),
}

/// Where the HTTP API has an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Method.
    pub method: Method,
    /// Paths below `/v1`; `{field}` is a field of the input.
    pub paths: &'static [&'static str],
    /// What the body of a request is.
    pub body: Body,
    /// Whether it may take long: it is then answered with 202 and an address where its state is, or with a stream.
    pub long: bool,
    /// Whether it makes something, so that the response is 201.
    pub creates: bool,
    /// Whether the response is the output of the operation, a file, instead of its result.
    pub sends_file: bool,
    /// Pages of its result.
    pub pages: Pages,
}

/// Whether an operation can be reached over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It can, there.
    Http(Endpoint),
    /// It cannot, for this reason.
    SshOnly(&'static str),
}

impl Endpoint {
    const fn new(method: Method, paths: &'static [&'static str], body: Body) -> Self {
        Self { method, paths, body, long: false, creates: false, sends_file: false, pages: Pages::One }
    }

    pub(super) const fn get(paths: &'static [&'static str]) -> Self {
        Self::new(Method::Get, paths, Body::None)
    }

    pub(super) const fn post(paths: &'static [&'static str]) -> Self {
        Self::new(Method::Post, paths, Body::Fields)
    }

    pub(super) const fn put(paths: &'static [&'static str]) -> Self {
        Self::new(Method::Put, paths, Body::Fields)
    }

    pub(super) const fn patch(paths: &'static [&'static str]) -> Self {
        Self::new(Method::Patch, paths, Body::Fields)
    }

    pub(super) const fn delete(paths: &'static [&'static str]) -> Self {
        Self::new(Method::Delete, paths, Body::None)
    }

    /// Its body is the value of this field.
    pub(super) const fn body(mut self, field: &'static str) -> Self {
        self.body = Body::Field(field);
        self
    }

    pub(super) const fn no_body(mut self) -> Self {
        self.body = Body::None;
        self
    }

    pub(super) const fn file(mut self) -> Self {
        self.body = Body::File;
        self
    }

    pub(super) const fn file_or_fields(mut self) -> Self {
        self.body = Body::FileOrFields;
        self
    }

    pub(super) const fn long(mut self) -> Self {
        self.long = true;
        self
    }

    pub(super) const fn creates(mut self) -> Self {
        self.creates = true;
        self
    }

    pub(super) const fn sends_file(mut self) -> Self {
        self.sends_file = true;
        self
    }

    pub(super) const fn pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// The names of the fields in a path.
    pub fn fields_of(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

impl From<Endpoint> for Reach {
    fn from(endpoint: Endpoint) -> Self {
        Self::Http(endpoint)
    }
}
