-- +goose Up
-- Player: the instances of Concern player.
CREATE TABLE player (
    id           text        PRIMARY KEY,
    username     text        NOT NULL,
    active       boolean     NOT NULL,
    limits_id    text        NOT NULL,
    rkcy_version bigint      NOT NULL,
    rkcy_time    timestamptz NOT NULL
);
CREATE INDEX ON player USING hash (username);

-- Character: the instances of Concern character.
CREATE TABLE character (
    id           text        PRIMARY KEY,
    player_id    text        NOT NULL,
    fullname     text        NOT NULL,
    active       boolean     NOT NULL,
    currency     jsonb,
    items        jsonb       NOT NULL,
    rkcy_version bigint      NOT NULL,
    rkcy_time    timestamptz NOT NULL
);
CREATE INDEX ON character USING hash (player_id);

-- +goose Down
DROP TABLE character;
DROP TABLE player;
