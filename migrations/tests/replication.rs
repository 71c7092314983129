//! What reaches a reader: its own jurisdiction's rows, changes and deletions; nothing else, and no TRUNCATE.

#![cfg(test)]

#[path = "../../core/postgres/tests/cluster/mod.rs"]
mod cluster;

use cluster::{Server, eventually};
use domicile_core::ids::Jurisdiction;
use domicile_migrations::{TABLES, migrate_ledger, migrate_reader};
use domicile_postgres::Connection;

/// One row of every published table, for jurisdiction `{j}` and number `{n}`.
const ROWS: &[&str] = &[
    "INSERT INTO ledger.round VALUES ('{j}', '00000000-0000-0000-0000-00000000000{n}', 'round', 'op', 'wheel', \
     'p', 'EUR', decode(repeat('ab', 32), 'hex'), 'open', NULL, now(), NULL, NULL)",
    "INSERT INTO ledger.bet VALUES ('{j}', '00000000-0000-0000-0000-00000000000{n}', gen_random_uuid(), \
     gen_random_uuid(), 'op', 'player', 'EUR', 1, 'spin', decode(repeat('ab', 32), 'hex'), 'record', \
     decode(repeat('ab', 32), 'hex'), decode(repeat('ab', 32), 'hex'), 1, NULL, 'receipt', now())",
    "INSERT INTO ledger.session_revocation VALUES ('{j}', '00000000-0000-0000-0000-00000000000{n}', now())",
    "INSERT INTO log.leaf VALUES ('{j}', 1, {n}, 'entry', decode(repeat('ab', 32), 'hex'))",
    "INSERT INTO log.node VALUES ('{j}', 1, 1, {n}, decode(repeat('ab', 32), 'hex'))",
    "INSERT INTO log.subject VALUES ('{j}', 1, '00000000-0000-0000-0000-00000000000{n}', 'play', {n})",
    "INSERT INTO log.checkpoint VALUES ('{j}', 1, {n}, 'note')",
];

async fn fill(ledger: &Connection, jurisdiction: &str, number: &str) {
    for row in ROWS {
        let row = row.replace("{j}", jurisdiction).replace("{n}", number);
        ledger.batch_execute(&row).await.unwrap();
    }
    let beat = format!(
        "INSERT INTO ledger.heartbeat AS h VALUES ('{jurisdiction}', 1, 1) \
         ON CONFLICT (jurisdiction) DO UPDATE SET beat = h.beat + 1"
    );
    ledger.batch_execute(&beat).await.unwrap();
}

/// `table jurisdiction count` of everything a database holds.
async fn holdings(database: &Connection) -> Vec<String> {
    let mut found = Vec::new();
    for table in TABLES {
        let name = table.name;
        let sql = format!("SELECT jurisdiction, count(*) FROM {name} GROUP BY 1 ORDER BY 1");
        for row in database.query(&sql, &[]).await.unwrap() {
            found.push(format!("{name} {} {}", row.get::<_, String>(0), row.get::<_, i64>(1)));
        }
    }
    found
}

fn expected(rows: i64) -> Vec<String> {
    let count = |name: &str| if name == "ledger.heartbeat" { 1 } else { rows };
    TABLES.iter().map(|table| format!("{} MT {}", table.name, count(table.name))).collect()
}

async fn pair() -> (Server, Server) {
    let (ledger, reader) = (Server::primary().await, Server::primary().await);
    migrate_reader(&mut reader.superuser().await).await.unwrap();
    let codes = ["MT", "DE"].map(|code| Jurisdiction::parse(code).unwrap());
    migrate_ledger(&mut ledger.superuser().await, &codes).await.unwrap();
    (ledger, reader)
}

#[tokio::test]
async fn a_reader_gets_the_rows_of_its_jurisdiction_and_their_changes() {
    let (ledger, reader) = pair().await;
    let (writer, admin) = (ledger.superuser().await, reader.superuser().await);
    fill(&writer, "MT", "1").await;
    fill(&writer, "DE", "1").await;
    let set_password = "ALTER ROLE domicile_replication PASSWORD 'replicate'";
    writer.batch_execute(set_password).await.unwrap();
    let subscribe = format!(
        "CREATE SUBSCRIPTION sub_reader_mt CONNECTION \
         'host=127.0.0.1 port={} dbname=postgres user=domicile_replication password=replicate' \
         PUBLICATION pub_mt_ledger, pub_mt_log WITH (failover = true, two_phase = false, binary = true)",
        ledger.port
    );
    admin.batch_execute(&subscribe).await.unwrap();
    eventually("the first copy", async || holdings(&admin).await == expected(1)).await;

    fill(&writer, "DE", "2").await;
    fill(&writer, "MT", "2").await;
    eventually("new rows", async || holdings(&admin).await == expected(2)).await;

    // The reader has every column, and a change of the one that changes.
    writer.batch_execute("UPDATE ledger.bet SET payout_micro = 77").await.unwrap();
    writer
        .batch_execute("UPDATE ledger.round SET state = 'settled', outcome = 'o', ended_at = now()")
        .await
        .unwrap();
    eventually("updates", async || {
        let sql = "SELECT 1 FROM ledger.bet JOIN ledger.round USING (jurisdiction, id) \
                   WHERE payout_micro = 77 AND state = 'settled'";
        admin.query(sql, &[]).await.unwrap().len() == 2
    })
    .await;
    for table in TABLES {
        let sql =
            format!("SELECT t::text FROM {} t WHERE jurisdiction = 'MT' ORDER BY 1", table.name);
        let rows = async |database: &Connection| {
            let rows = database.query(&sql, &[]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
        };
        assert_eq!(rows(&admin).await, rows(&writer).await, "{}", table.name);
    }

    // Deletions of facts arrive. Those of the log do not, and TRUNCATE of anything does not.
    writer.batch_execute("DELETE FROM ledger.bet; DELETE FROM log.leaf").await.unwrap();
    writer.batch_execute("TRUNCATE ledger.round, log.node").await.unwrap();
    fill(&writer, "MT", "3").await;
    eventually("deletions, and what came after them", async || {
        let sql = "SELECT 1 FROM ledger.bet UNION ALL SELECT 1 FROM log.checkpoint WHERE size = 3";
        admin.query(sql, &[]).await.unwrap().len() == 2
    })
    .await;
    let kept: Vec<_> = expected(3)
        .into_iter()
        .map(|held| held.replace("ledger.bet MT 3", "ledger.bet MT 1"))
        .collect();
    assert_eq!(holdings(&admin).await, kept);
    let errors = "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats";
    assert_eq!(admin.query_one(errors, &[]).await.unwrap().get::<_, i64>(0), 0);
    admin.batch_execute("DROP SUBSCRIPTION sub_reader_mt").await.unwrap();
}

#[tokio::test]
async fn every_column_of_a_published_table_is_listed() {
    let (ledger, _reader) = pair().await;
    let admin = ledger.superuser().await;
    for table in TABLES {
        let sql = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 \
             AND NOT attisdropped ORDER BY attnum",
            table.name
        );
        let rows = admin.query(&sql, &[]).await.unwrap();
        let columns: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(columns, table.columns, "{}", table.name);
    }
    let unfiltered = "SELECT 1 FROM pg_publication_tables WHERE rowfilter IS NULL \
                      UNION ALL SELECT 1 FROM pg_publication WHERE pubtruncate OR puballtables";
    assert!(admin.query(unfiltered, &[]).await.unwrap().is_empty());
}
