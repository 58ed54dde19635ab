# An application as there are many: a pool of connections, rows that are written one after the other. Usage: application.py ADDRESS
# Prints the number of each row that was committed, and each error. It never writes a number again.
import sys
import time

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

engine = create_engine(
    f"mysql+pymysql://bench:bench@{sys.argv[1]}/shop",
    pool_size=2,
    pool_pre_ping=True,  # a connection that is dead is replaced before it is used
    connect_args={"connect_timeout": 1, "read_timeout": 1, "write_timeout": 1},
)

number = 0
while True:
    number += 1
    try:
        with engine.begin() as connection:
            if number == 1:
                connection.execute(text("CREATE OR REPLACE TABLE applied (id BIGINT PRIMARY KEY) ENGINE=InnoDB"))
            connection.execute(text("INSERT INTO applied VALUES (:id)"), {"id": number})
        print(number, flush=True)
    except DBAPIError as e:
        print(str(e.orig), file=sys.stderr, flush=True)
    time.sleep(0.02)
