"""Squares the numbers that wait in Redis and keeps the results in PostgreSQL."""

import socket

import psycopg2
import redis

todo = redis.Redis(host="cache")
password = open("/run/secrets/password").read().rstrip("\n")
connection = psycopg2.connect(host="database", user="postgres", password=password)
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("select pg_advisory_lock(1)")
cursor.execute("create table if not exists result (number int primary key, square int, worker text)")
cursor.execute("select pg_advisory_unlock(1)")
print("ready", flush=True)
while True:
    number = int(todo.blpop("work")[1])
    cursor.execute(
        "insert into result values (%s, %s, %s) on conflict do nothing",
        (number, number * number, socket.gethostname()),
    )
    print("squared", number, flush=True)
