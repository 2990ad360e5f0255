CREATE TABLE ship (name text PRIMARY KEY, containers integer NOT NULL);
INSERT INTO ship VALUES ('Anna', 3), ('Berta', 4);
