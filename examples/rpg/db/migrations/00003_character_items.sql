-- The items of characters get a table of their own. Run it while no processor
-- runs and the storage workers have caught up.

-- +goose Up
CREATE TABLE character_item (
    character_id text    NOT NULL,
    position     integer NOT NULL,
    id           text    NOT NULL,
    description  text    NOT NULL,
    PRIMARY KEY (character_id, position)
);
CREATE INDEX ON character_item USING hash (id);

-- Items that JSON cannot hold are kept in another form (package column says
-- which), not a list. If there are any, this fails, and nothing is lost.
INSERT INTO character_item (character_id, position, id, description)
SELECT c.id, i.number - 1, coalesce(i.item ->> 'id', ''), coalesce(i.item ->> 'description', '')
FROM character AS c, jsonb_array_elements(c.items) WITH ORDINALITY AS i(item, number);
ALTER TABLE character DROP COLUMN items;

-- +goose Down
ALTER TABLE character ADD COLUMN items jsonb NOT NULL DEFAULT '[]';
UPDATE character SET items = i.items
FROM (
    SELECT character_id, jsonb_agg(jsonb_build_object('id', id, 'description', description) ORDER BY position) AS items
    FROM character_item GROUP BY character_id
) AS i
WHERE character.id = i.character_id;
ALTER TABLE character ALTER COLUMN items DROP DEFAULT;
DROP TABLE character_item;
