"""Figures on real eyes in one table, real.csv beside this file: a row a figure, with interval, baselines and the command that makes it.

`nbs/results.ipynb` reads it. The programs write it; nobody edits it by hand."""
import csv, os
from pathlib import Path

REAL = Path(__file__).with_name('real.csv')
KEY = ['task','data','net','side','recipe','metric','per','seed']
COLUMNS = ['task','data','images','patients','net','weights','side','recipe','metric','per','figure','low','high','baselines','confounded','minutes','seed','command']

def _read(path):
    "Rows as dicts of text"
    if not Path(path).exists(): return []
    with open(path, newline='', encoding='utf-8') as f: return list(csv.DictReader(f))

def has(path, **key):
    "Whether a row with these values is there"
    return any(all(o[k]==str(v) for k,v in key.items()) for o in _read(path))

def put(path, **row):
    "Write a row in the place of that of the same key, else at the end; what it lacks is empty"
    path,row = Path(path),dict.fromkeys(COLUMNS, '')|{k:str(v) for k,v in row.items()}
    if more := row.keys()-set(COLUMNS): raise ValueError(f"{sorted(more)} are no columns of {path.name}")
    rows = _read(path)
    at = [i for i,o in enumerate(rows) if all(o[k]==row[k] for k in KEY)]
    if at: rows[at[0]] = row
    else: rows.append(row)
    part = path.with_suffix('.part')
    with open(part, 'w', newline='', encoding='utf-8') as f:
        w = csv.DictWriter(f, COLUMNS, lineterminator='\n')
        w.writeheader()
        w.writerows(rows)
    os.replace(part, path)
    print(' '.join(row[k] for k in ('task','data','net','recipe','per','metric','figure','low','high')), flush=True)

def estimate(e, digits=4):
    "An `Estimate` as figure, low and high, which are empty where there is no interval"
    return {k:round(float(v), digits) if v==v else '' for k,v in zip(('figure','low','high'), (e.value,e.low,e.high))}
