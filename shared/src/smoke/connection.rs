//! Green behind a Network Load Balancer: it is not known what it speaks, but it must take connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::client::Destination;
use crate::verdict::{Finding, Outcome};

/// Connections that are made; one refused in five is no accident.
const TIMES: usize = 5;
/// Longest wait for one of them.
const LONGEST: Duration = Duration::from_secs(2);

/// Connects several times; each connection must be taken.
pub async fn check(destination: &Destination) -> Finding {
    let mut refused = Vec::new();
    for _ in 0..TIMES {
        refused.extend(connect(destination.addresses()).await.err());
    }
    let name = format!("connection to port {}", destination.port());
    match refused.first() {
        None => Finding::new(name, Outcome::Pass, format!("{TIMES} of {TIMES} connections were taken")),
        Some(why) => Finding::new(
            name,
            Outcome::Fail,
            format!("{} of {TIMES} connections failed: {why}", refused.len()),
        ),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<(), String> {
    match tokio::time::timeout(LONGEST, TcpStream::connect(addresses)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not taken within {} s", LONGEST.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_must_be_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = reqwest::Url::parse(&format!("tcp://{}/", listener.local_addr().unwrap())).unwrap();
        let refused = Destination::found(url.clone(), None, Vec::new(), &[]).await.unwrap_err();
        assert!(refused.what.contains("127.0.0.1, a loopback address"), "{refused}");

        let allowed = ["127.0.0.1".to_owned()];
        let destination = Destination::found(url, None, Vec::new(), &allowed).await.unwrap();
        assert_eq!(check(&destination).await.outcome, Outcome::Pass);
        drop(listener);
        let refused = check(&destination).await;
        assert_eq!(refused.outcome, Outcome::Fail);
        assert!(refused.summary.starts_with("5 of 5"), "{}", refused.summary);
    }
}
