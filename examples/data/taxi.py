#!/usr/bin/env python3
"""Taxi rides in the columns of New York's: examples/data/taxi.py ROWS >taxi.csv. The same rows for the same seed (--seed N).

Fares are 2.50 dollars, 1.56 a mile along the streets, 0.35 a minute of standing in the traffic of the hour, a surcharge at night, and
noise. One row in 500 has an empty field or a ride without distance, as the real ones have. Written as fast as they are made: for a
larger file than the disk holds, read from a pipe."""
import argparse, math, random, sys

p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
p.add_argument("rows", type=int)
p.add_argument("--seed", type=int, default=1)
a = p.parse_args()
rng = random.Random(a.seed)
out = sys.stdout
out.write("key,fare_amount,pickup_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,dropoff_latitude,passenger_count\n")
MILE_LAT, MILE_LON = 1 / 69.0, 1 / 52.4 # degrees
for k in range(a.rows):
    month, day, hour, minute, second = rng.randint(1, 12), rng.randint(1, 28), rng.randrange(24), rng.randrange(60), rng.randrange(60)
    when = f"{rng.randint(2009, 2015)}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
    lon, lat = -73.98 + rng.gauss(0, 0.025), 40.75 + rng.gauss(0, 0.025)
    east, north = rng.gauss(0, 1.6), rng.gauss(0, 1.9)
    if rng.random() < 0.002:
        east = north = 0.0
    miles = abs(east * math.cos(0.5) - north * math.sin(0.5)) + abs(east * math.sin(0.5) + north * math.cos(0.5)) # the grid of streets is turned
    speed = 11 + 5 * math.cos((hour - 3) / 24 * 2 * math.pi)
    fare = 2.5 + 1.56 * miles + 0.35 * 12 * miles / speed + (1.0 if hour >= 20 or hour < 6 else 0.0)
    fare = max(2.5, round((fare + rng.gauss(0, 0.6)) * 2) / 2)
    fields = [f"{when}.{k:07}", f"{fare:.1f}", f"{when} UTC", f"{lon:.6f}", f"{lat:.6f}", f"{lon + east * MILE_LON:.6f}", f"{lat + north * MILE_LAT:.6f}",
              str(rng.choice((1, 1, 1, 1, 2, 2, 3, 5)))]
    if rng.random() < 0.002:
        fields[rng.randrange(3, 7)] = ""
    out.write(",".join(fields) + "\n")
