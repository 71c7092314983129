//! A reader's subscriptions: one per jurisdiction, to the ledger node that the control record names.
//!
//! Invariants: a subscription exists only for a jurisdiction the topology gives this reader, and takes only that
//! jurisdiction's publications; it is never ahead of the standby that may be promoted (`failover`); rows are deleted
//! only when asked for, or when the topology takes the jurisdiction away – after a forced failover this replica may be
//! the only holder of what the new writer's log must extend. Following the record only points what exists elsewhere.

use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_topology::agent_api::{
    SubscriptionAction, SubscriptionOutcome, SubscriptionsAnswer, SubscriptionsRequest,
    subscription_name,
};
use domicile_topology::observed::NodeKind;
use serde::Deserialize;

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::settings::{DATABASE, Login, conninfo};

/// A subscription of this database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Local {
    name: String,
    enabled: bool,
    conninfo: String,
}

/// A replication slot on the publisher.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct RemoteSlot {
    name: String,
    active: bool,
    invalidated: bool,
}

/// A published table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Table {
    schema: String,
    name: String,
}

/// What one jurisdiction's subscription should be.
#[derive(Debug)]
struct Wanted<'a> {
    jurisdiction: &'a Jurisdiction,
    name: String,
    conninfo: String,
}

const LOCAL: &str = "select coalesce(json_agg(s), '[]') from (
    select subname as name, subenabled as enabled, subconninfo as conninfo from pg_subscription
    where subdbid = (select oid from pg_database where datname = current_database())) s";

impl Agent {
    /// Creates and repairs the subscriptions of this reader.
    pub async fn subscriptions(
        &self,
        request: &SubscriptionsRequest,
    ) -> Result<SubscriptionsAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Reader {
            return Err(Error::State("only a reader has subscriptions".to_owned()));
        }
        let held = self.held_jurisdictions()?;
        if let Some(foreign) = request.reseed.iter().find(|code| !held.contains(code)) {
            return Err(Error::State(format!("this reader does not hold {foreign}")));
        }
        let publisher = self.publisher().await?;
        let local = self.open(DATABASE).await?;
        let remote = self.open_ledger(&publisher).await?;
        let mut outcomes = self.remove_foreign(&local, &held).await?;
        for jurisdiction in &held {
            let wanted = self.wanted(jurisdiction, &publisher)?;
            let reseed = request.reseed.contains(jurisdiction);
            let action = settle(&local, &remote, &wanted, reseed).await?;
            match action {
                SubscriptionAction::Unchanged => {}
                SubscriptionAction::NeedsReseed => tracing::warn!(
                    %jurisdiction, %publisher, subscription = wanted.name,
                    "the subscription lacks changes for good: it needs a reseed"
                ),
                _ => tracing::info!(%jurisdiction, %publisher, ?action, "subscription"),
            }
            let jurisdiction = jurisdiction.clone();
            outcomes.push(SubscriptionOutcome { jurisdiction, name: wanted.name, action });
        }
        Ok(SubscriptionsAnswer { publisher, subscriptions: outcomes })
    }

    /// Points existing subscriptions to the node the record names.
    pub(crate) async fn follow_publisher(&self) -> Result<(), Error> {
        let Some(record) = self.control.last_record() else { return Ok(()) };
        let session = self.open(DATABASE).await?;
        let present = locals(&session).await?;
        for jurisdiction in self.held_jurisdictions()? {
            let wanted = self.wanted(&jurisdiction, &record.writer_node)?;
            let moved = present.iter().find(|local| local.name == wanted.name);
            if moved.is_some_and(|local| local.conninfo != wanted.conninfo) {
                repoint(&session, &wanted).await?;
                tracing::info!(%jurisdiction, publisher = %record.writer_node, "subscription repointed");
            }
        }
        Ok(())
    }

    /// Whether a subscription of this reader leads to the ledger node.
    pub(crate) async fn subscribes_to(&self, node: &NodeId) -> Result<bool, Error> {
        let present = locals(&self.open(DATABASE).await?).await?;
        for jurisdiction in self.held_jurisdictions()? {
            let wanted = self.wanted(&jurisdiction, node)?;
            if present.iter().any(|local| local.conninfo == wanted.conninfo) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn publisher(&self) -> Result<NodeId, Error> {
        let authority = self.control.ask().await;
        let record = authority.record();
        record.map(|record| record.writer_node.clone()).ok_or_else(|| {
            Error::State("there is no control record, so there is no ledger to follow".to_owned())
        })
    }

    fn held_jurisdictions(&self) -> Result<Vec<Jurisdiction>, Error> {
        let topology = self.control.topology();
        let topology = topology.ok_or(Error::ControlAway("no topology is known yet"))?;
        let reader = topology.reader(&self.config.node);
        let held = reader.map(|reader| reader.jurisdictions.iter().cloned().collect());
        held.ok_or_else(|| Error::State("the topology has no such reader".to_owned()))
    }

    fn wanted<'a>(
        &self,
        jurisdiction: &'a Jurisdiction,
        publisher: &NodeId,
    ) -> Result<Wanted<'a>, Error> {
        let address = self.ledger_address(publisher)?;
        let name = subscription_name(&self.config.node, jurisdiction);
        let tls = self.config.postgres.tls.as_ref();
        let login = Login::replication(&address, Some(&name));
        let conninfo = conninfo(&login, &self.files.passfile, tls);
        Ok(Wanted { jurisdiction, name, conninfo })
    }

    async fn remove_foreign(
        &self,
        local: &Session,
        held: &[Jurisdiction],
    ) -> Result<Vec<SubscriptionOutcome>, Error> {
        let names: Vec<String> =
            held.iter().map(|code| subscription_name(&self.config.node, code)).collect();
        let mut removed = Vec::new();
        for code in self.jurisdictions()? {
            let name = subscription_name(&self.config.node, &code);
            let present = locals(local).await?.into_iter().any(|local| local.name == name);
            if present && !names.contains(&name) {
                let tables = subscribed_tables(local, &name).await?;
                let drop = format!("drop subscription \"{name}\"");
                local.run("drop a withdrawn subscription", &drop).await?;
                delete_rows(local, &tables, &code).await?;
                let action = SubscriptionAction::Removed;
                removed.push(SubscriptionOutcome { jurisdiction: code, name, action });
            }
        }
        Ok(removed)
    }
}

async fn settle(
    local: &Session,
    remote: &Session,
    wanted: &Wanted<'_>,
    reseed: bool,
) -> Result<SubscriptionAction, Error> {
    let present = locals(local).await?.into_iter().find(|local| local.name == wanted.name);
    let slot = remote_slot(remote, &wanted.name).await?;
    let tables = published_tables(remote, wanted.jurisdiction).await?;
    let Some(present) = present else {
        if !reseed && has_rows(local, &tables, wanted.jurisdiction).await? {
            return Ok(SubscriptionAction::NeedsReseed);
        }
        create(local, remote, wanted, &tables, slot).await?;
        return Ok(if reseed { SubscriptionAction::Reseeded } else { SubscriptionAction::Created });
    };
    if reseed {
        abandon(local, &wanted.name).await?;
        let slot = remote_slot(remote, &wanted.name).await?;
        create(local, remote, wanted, &tables, slot).await?;
        return Ok(SubscriptionAction::Reseeded);
    }
    let moved = present.conninfo != wanted.conninfo;
    if moved {
        repoint(local, wanted).await?;
    } else if !present.enabled {
        enable(local, &wanted.name).await?;
    }
    Ok(match slot {
        None => SubscriptionAction::NeedsReseed,
        Some(slot) if slot.invalidated => SubscriptionAction::NeedsReseed,
        Some(_) if moved => SubscriptionAction::Repointed,
        Some(_) if !present.enabled => SubscriptionAction::Enabled,
        Some(_) => SubscriptionAction::Unchanged,
    })
}

async fn locals(session: &Session) -> Result<Vec<Local>, Error> {
    Ok(session.json("read the subscriptions", LOCAL).await?.unwrap_or_default())
}

async fn remote_slot(remote: &Session, name: &str) -> Result<Option<RemoteSlot>, Error> {
    let sql = format!(
        "select to_json(s) from (select slot_name as name, active, \
         invalidation_reason is not null as invalidated \
         from pg_replication_slots where slot_name = '{name}') s"
    );
    remote.json("read the ledger's slots", &sql).await
}

fn publications(jurisdiction: &Jurisdiction) -> [String; 2] {
    let slug = jurisdiction.slug();
    [format!("pub_{slug}_log"), format!("pub_{slug}_ledger")]
}

async fn published_tables(remote: &Session, code: &Jurisdiction) -> Result<Vec<Table>, Error> {
    let [log, ledger] = publications(code);
    let sql = format!(
        "select coalesce(json_agg(t), '[]') from (select schemaname as schema, tablename as name \
         from pg_publication_tables where pubname in ('{log}', '{ledger}') order by 1, 2) t"
    );
    let step = "read the ledger's publications";
    let tables: Vec<Table> = remote.json(step, &sql).await?.unwrap_or_default();
    if tables.is_empty() {
        return Err(Error::State(format!("the ledger publishes nothing for {code}: migrate it")));
    }
    Ok(tables)
}

async fn subscribed_tables(local: &Session, name: &str) -> Result<Vec<Table>, Error> {
    let sql = format!(
        "select coalesce(json_agg(t), '[]') from (select n.nspname as schema, c.relname as name \
         from pg_subscription s join pg_subscription_rel r on r.srsubid = s.oid \
         join pg_class c on c.oid = r.srrelid join pg_namespace n on n.oid = c.relnamespace \
         where s.subname = '{name}') t"
    );
    Ok(local.json("read the subscribed tables", &sql).await?.unwrap_or_default())
}

async fn has_rows(local: &Session, tables: &[Table], code: &Jurisdiction) -> Result<bool, Error> {
    for Table { schema, name } in tables {
        let sql = format!(
            "select exists (select from \"{schema}\".\"{name}\" where jurisdiction = '{code}')"
        );
        if local.optional("look for rows", &sql).await?.unwrap_or(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn delete_rows(local: &Session, tables: &[Table], code: &Jurisdiction) -> Result<(), Error> {
    for Table { schema, name } in tables {
        let sql = format!("delete from \"{schema}\".\"{name}\" where jurisdiction = '{code}'");
        local.run("delete a jurisdiction's rows", &sql).await?;
    }
    Ok(())
}

async fn create(
    local: &Session,
    remote: &Session,
    wanted: &Wanted<'_>,
    tables: &[Table],
    leftover: Option<RemoteSlot>,
) -> Result<(), Error> {
    if let Some(slot) = leftover {
        if slot.active {
            return Err(Error::State(format!("{}: the slot is in use by another", slot.name)));
        }
        // Without its subscription a slot's position means nothing: the copy needs a new one.
        let sql = format!("select pg_drop_replication_slot('{}')", slot.name);
        remote.run("drop a slot without subscription", &sql).await?;
    }
    delete_rows(local, tables, wanted.jurisdiction).await?;
    let [log, ledger] = publications(wanted.jurisdiction);
    let sql = format!(
        "create subscription \"{name}\" connection '{conninfo}' publication {log}, {ledger} \
         with (slot_name = '{name}', failover = true, two_phase = false, binary = true, copy_data = true)",
        name = wanted.name,
        conninfo = wanted.conninfo.replace('\'', "''"),
    );
    local.run("create a subscription", &sql).await
}

// Lets go of the slot without asking the publisher, which may not have it.
async fn abandon(local: &Session, name: &str) -> Result<(), Error> {
    let step = "drop a subscription";
    for sql in [
        format!("alter subscription \"{name}\" disable"),
        format!("alter subscription \"{name}\" set (slot_name = none)"),
        format!("drop subscription \"{name}\""),
    ] {
        local.run(step, &sql).await?;
    }
    Ok(())
}

async fn repoint(local: &Session, wanted: &Wanted<'_>) -> Result<(), Error> {
    let conninfo = wanted.conninfo.replace('\'', "''");
    let sql = format!("alter subscription \"{}\" connection '{conninfo}'", wanted.name);
    local.run("repoint a subscription", &sql).await?;
    enable(local, &wanted.name).await
}

async fn enable(local: &Session, name: &str) -> Result<(), Error> {
    let sql = format!("alter subscription \"{name}\" enable");
    local.run("enable a subscription", &sql).await
}
