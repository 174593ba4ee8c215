//! A first persistent journal. Start a cluster with `cairn dev`, then `cargo run -p cairn-client --example hello`.

use cairn_client::{Cairn, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let cairn = Cairn::connect(["127.0.0.1:7101"]).await?;
    let mut account = cairn.journal("account-1")?.claim().await?;
    account.append("opened").await?;
    account.append_all(["deposited 100", "withdrew 30"]).await?;
    let mut events = account.journal().replay(..).start();
    while let Some(stored) = events.next().await? {
        println!("{}: {}", stored.event.sequence_number, String::from_utf8_lossy(&stored.event.payload.bytes));
    }
    Ok(())
}
