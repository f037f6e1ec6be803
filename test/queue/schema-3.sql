-- A queue as the third schema kept it, with mail that waits (some of it tried before), is held and was being delivered. Never changed.
CREATE TABLE message (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    received_at  INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    client       TEXT NOT NULL,
    sender       TEXT NOT NULL,
    smtputf8     INTEGER NOT NULL,
    body_type    TEXT NOT NULL,
    ret          TEXT,
    envid        TEXT,
    size         INTEGER NOT NULL,
    eight_bit    INTEGER NOT NULL,
    utf8_header  INTEGER NOT NULL,
    body_octets  INTEGER NOT NULL,
    body_in_file INTEGER NOT NULL
  ) STRICT;
CREATE TABLE body (
    message INTEGER PRIMARY KEY REFERENCES message (seq),
    octets  BLOB NOT NULL
  ) STRICT;
CREATE TABLE recipient (
    id                INTEGER PRIMARY KEY,
    message           INTEGER NOT NULL REFERENCES message (seq),
    address           TEXT NOT NULL,
    domain            TEXT NOT NULL,
    notify            TEXT,
    orcpt             TEXT,
    attempts          INTEGER NOT NULL DEFAULT 0,
    next_attempt      INTEGER NOT NULL,
    asked_at          INTEGER,
    delay_notice_sent INTEGER NOT NULL DEFAULT 0,
    code              TEXT,
    status            TEXT,
    explanation       TEXT,
    host              TEXT,
    held              INTEGER NOT NULL DEFAULT 0,
    lease             INTEGER
  ) STRICT;
CREATE INDEX recipient_of_message ON recipient (message, domain);
CREATE INDEX recipient_waiting ON recipient (domain, next_attempt) WHERE held = 0 AND lease IS NULL;
CREATE INDEX recipient_leased ON recipient (lease) WHERE lease IS NOT NULL;
CREATE TABLE lease (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
  ) STRICT;
CREATE TABLE lane (
    domain TEXT PRIMARY KEY,
    due    INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
CREATE INDEX lane_due ON lane (due);
INSERT INTO message (seq, id, received_at, expires_at, client, sender, smtputf8, body_type, ret, envid, size, eight_bit, utf8_header, body_octets, body_in_file) VALUES (1, 'FIRST', 1793534400000, 1793966400000, 'exchange', 'alice@office.test', 0, '7bit', NULL, NULL, 23, 0, 0, 23, 0);
INSERT INTO message (seq, id, received_at, expires_at, client, sender, smtputf8, body_type, ret, envid, size, eight_bit, utf8_header, body_octets, body_in_file) VALUES (2, 'SECOND', 1793534400000, 1793966400000, 'exchange', '', 0, '7bit', 'full', 'x=y', 24, 0, 0, 24, 0);
INSERT INTO body (message, octets) VALUES (1, x'5375626a6563743a206f6e650d0a0d0a66697273740d0a');
INSERT INTO body (message, octets) VALUES (2, x'5375626a6563743a2074776f0d0a0d0a7365636f6e640d0a');
INSERT INTO lease (id, owner, until) VALUES (1, 'relay.example.test', 1793534461000);
INSERT INTO recipient (id, message, address, domain, notify, orcpt, attempts, next_attempt, asked_at, delay_notice_sent, code, status, explanation, host, held, lease) VALUES (1, 1, 'bob@one.test', 'one.test', NULL, NULL, 0, 1793534400000, NULL, 0, NULL, NULL, NULL, NULL, 0, 1);
INSERT INTO recipient (id, message, address, domain, notify, orcpt, attempts, next_attempt, asked_at, delay_notice_sent, code, status, explanation, host, held, lease) VALUES (2, 1, 'eve@one.test', 'one.test', NULL, NULL, 0, 1793534400000, NULL, 0, NULL, NULL, NULL, NULL, 0, 1);
INSERT INTO recipient (id, message, address, domain, notify, orcpt, attempts, next_attempt, asked_at, delay_notice_sent, code, status, explanation, host, held, lease) VALUES (3, 1, 'carol@two.test', 'two.test', NULL, NULL, 0, 1793534400000, NULL, 0, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO recipient (id, message, address, domain, notify, orcpt, attempts, next_attempt, asked_at, delay_notice_sent, code, status, explanation, host, held, lease) VALUES (4, 2, 'dave@three.test', 'three.test', NULL, NULL, 0, 1793534400000, NULL, 0, NULL, NULL, NULL, NULL, 1, NULL);
INSERT INTO lane (domain, due) VALUES ('two.test', 1793534400000);
ALTER TABLE message ADD COLUMN body_sha256 BLOB;
ALTER TABLE message ADD COLUMN tls TEXT NOT NULL DEFAULT 'default';
UPDATE recipient SET attempts = 1, code = 'remote-later', status = '4.2.0', explanation = 'Later.' WHERE id = 3;
PRAGMA user_version = 3;
