-- Players know their characters, and usernames are unique. Run it while no
-- processor runs and the storage workers have caught up.

-- +goose Up
ALTER TABLE player ADD COLUMN rkcy_related bytea;

-- The values of Player.username that are taken. If two players have the same,
-- this fails: rename one of them first.
CREATE TABLE player_username (
    value        text        PRIMARY KEY,
    owner        text        NOT NULL,
    rkcy_version bigint      NOT NULL,
    rkcy_time    timestamptz NOT NULL
);
INSERT INTO player_username (value, owner, rkcy_version, rkcy_time)
SELECT username, id, 1, now() FROM player WHERE username <> '';

-- What a player knows of its characters is a protobuf message (storage.Mapping
-- says which). rpg_field makes a field of it: tag, length, content.
-- +goose StatementBegin
CREATE FUNCTION rpg_field(tag bytea, content bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT tag || CASE
        WHEN length(content) < 128 THEN set_byte('\x00', 0, length(content))
        ELSE set_byte(set_byte('\x0000', 0, length(content) & 127 | 128), 1, length(content) >> 7)
    END || content
$$;
-- +goose StatementEnd
UPDATE player SET rkcy_related = c.related
FROM (
    SELECT player_id, string_agg(
        rpg_field('\x1a', rpg_field('\x0a', 'character') || rpg_field('\x12', convert_to(id, 'UTF8')) || rpg_field('\x1a',
            rpg_field('\x0a', convert_to(id, 'UTF8')) || rpg_field('\x1a', convert_to(fullname, 'UTF8')) ||
            CASE WHEN active THEN '\x2001'::bytea ELSE '\x' END)),
        '' ORDER BY id COLLATE "C") AS related
    FROM character GROUP BY player_id
) AS c
WHERE player.id = c.player_id;
DROP FUNCTION rpg_field;

-- +goose Down
DROP TABLE player_username;
ALTER TABLE player DROP COLUMN rkcy_related;
