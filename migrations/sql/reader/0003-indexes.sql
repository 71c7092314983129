-- What only a reader looks up.

-- A player's own bets, latest first.
CREATE INDEX IF NOT EXISTS bet_by_player ON ledger.bet (jurisdiction, operator_id, player_ref, id DESC);
