use axum::{Router, routing::get};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::var("PORT").unwrap_or("8080".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("0.0.0.0:{port}")).await.expect("a free port");
    let app = Router::new().route("/", get(async || "Hello from Axum\n"));
    axum::serve(listener, app).await.expect("a server");
}
