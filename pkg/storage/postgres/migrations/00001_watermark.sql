-- +goose Up
-- How far each storage partition has been applied. Written in the transaction
-- that writes the rows.
CREATE TABLE rkcy_watermark (
    concern     text        NOT NULL,
    generation  bigint      NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL CHECK (next_offset >= 0),
    updated     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (concern, generation, partition)
);

-- +goose Down
DROP TABLE rkcy_watermark;
