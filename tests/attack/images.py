"""Thousands of damaged images: `python tests/attack/images.py [--seed 0] [--n 2000] [--run RUN]`

Not part of CI. Without RUN, through the reader and the check before training: each answer is an array or a `DataError` of one
line that names the file, from both doors, within seconds; and what both say of a file is the same. Two thousand take about two
minutes. With a run folder, through `fundus check` and `fundus predict` as a table of that many rows: both leave out the same
files, or predict finds nothing to see there; and an answer is the one that a sound PNG of the same pixels gets.
"""
import argparse, io, tempfile, time, warnings
from collections import Counter
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from fundus_fastai.core import DataError
from fundus_fastai.image.read import _problem, formats, read_image
from fundus_fastai.phantom.fundus import phantom_fundus

SECONDS = 5 # for one file, at most

def seeds(size=96):
    "Whole files of every format, in several modes, with the notes that files carry: a list of (suffix, bytes)"
    im = Image.fromarray(phantom_fundus(seed=3, size=size).image)
    exif = Image.Exif()
    exif[0x0112],exif[0x010f] = 6,'Camera'
    plans = [('JPEG', {}), ('JPEG', dict(progressive=True, exif=exif)), ('PNG', dict(exif=exif)), ('TIFF', {}),
             ('TIFF', dict(compression='tiff_lzw')), ('TIFF', dict(compression='jpeg')), ('BMP', {}), ('GIF', {}),
             ('WEBP', {}), ('WEBP', dict(lossless=True)), ('PPM', {}), ('JPEG2000', {}), ('AVIF', {})]
    out = []
    for fmt,kw in plans:
        if fmt not in formats: continue
        for mode in ('RGB','L','P','RGBA') if fmt in ('PNG','TIFF') and 'compression' not in kw else ('RGB',):
            b = io.BytesIO()
            im.convert(mode).save(b, fmt, **kw)
            out.append((fmt.lower(), b.getvalue()))
    return out

def mutated(rng, raw:bytes)->bytes:
    "`raw` with bits flipped, bytes set, a piece cut, doubled, moved or zeroed: at its head more often than elsewhere"
    b = bytearray(raw)
    for _ in range(rng.integers(1,5)):
        at = int(rng.integers(0, min(len(b), 200) if rng.random()<.6 else len(b)))
        n,k = int(rng.integers(1,64)),rng.integers(7)
        if k==0: b[at] ^= 1<<int(rng.integers(8))
        elif k==1: b[at] = int(rng.choice([0,1,127,128,255]))
        elif k==2: b[at:at+4] = rng.integers(0,256,4,np.uint8).tobytes()
        elif k==3: del b[at:at+n]
        elif k==4: b[at:at] = b[at:at+n]*int(rng.integers(1,40))
        elif k==5: b[at:at+n] = bytes(len(b[at:at+n]))
        else: del b[at+n:]
        if not b: b = bytearray(b'\0')
    return bytes(b)

def verdict(path):
    "'read' or the error's first words, from both doors; raises `AssertionError` for all that may not be"
    try:
        a = read_image(path)
        assert a.dtype==np.uint8 and (a.ndim==2 or a.ndim==3 and a.shape[2]==3), f'{path}: {a.dtype} {a.shape}'
        said = 'read'
    except DataError as e:
        said = str(e)
        assert said.startswith(f'{path} ') and '\n' not in said, said
    quick = _problem(path)[0]
    assert (quick is None)==(said=='read'), f'{path}: read_image: {said}; the check: {quick}'
    return said if said=='read' else ' '.join(quick.split()[:3])

def attack(seed:int, n:int, folder)->Counter:
    "Verdicts on `n` damaged files; whatever goes wrong keeps its file in `folder`"
    rng,whole,found = np.random.default_rng(seed),seeds(),Counter()
    for k in range(n):
        fmt,raw = whole[k%len(whole)]
        path = Path(folder)/f'{seed}-{k}.{fmt}'
        path.write_bytes(mutated(rng, raw))
        begun = time.monotonic()
        found[fmt, verdict(path)] += 1
        took = time.monotonic()-begun
        assert took<SECONDS, f'{path} took {took:.1f} s'
        path.unlink()
    return found

def damaged(seed:int, n:int, folder)->list:
    "Paths of `n` damaged files in `folder`"
    rng,whole = np.random.default_rng(seed),seeds()
    paths = [Path(folder)/f'{seed}-{k}.{whole[k%len(whole)][0]}' for k in range(n)]
    for k,o in enumerate(paths): o.write_bytes(mutated(rng, whole[k%len(whole)][1]))
    return paths

def judge(run, seed:int, n:int, folder)->Counter:
    "Verdicts of `fundus check` and `fundus predict RUN` on `n` damaged files; raises `AssertionError` where they disagree"
    from fundus_fastai.run.check import check_data
    from fundus_fastai.run.train import predict_run
    paths,table = damaged(seed, n, folder),Path(folder)/'table.csv'
    rows = pd.DataFrame(dict(image=[o.name for o in paths], label=['sound','ill']*(n//2)+['ill']*(n%2), patient=range(n)))
    rows.to_csv(table, index=False)
    c = check_data(table)
    assert c.frame is not None and not c.stopped, c
    t = predict_run(run, paths)
    name = t.path.map(lambda o: Path(o).name)
    assert name.tolist()==rows.image.tolist(), 'a row each file, in order'
    out = {Path(o).name for o in c.left_out.file}
    blank = t.remark.str.contains('blank')
    assert out=={*name[~t.usable & ~blank]}, sorted(out ^ {*name[~t.usable & ~blank]})
    assert t.remark[t.usable].str.fullmatch('(.*this net knows (scans|photographs))?').all() and all(o in r for o,r in zip(name[~t.usable & ~blank], t.remark[~t.usable & ~blank]))
    asked = t.drop(columns=['path','patient','eye','usable','remark','model'])
    assert asked[~t.usable].isna().all(axis=None) and asked[t.usable].notna().all(axis=None)
    sound = [Path(folder)/f'{Path(o).stem}-sound.png' for o in t.path[t.usable]]
    for old,new in zip(t.path[t.usable], sound): Image.fromarray(read_image(old)).save(new)
    again = predict_run(run, sound)[asked.columns].reset_index(drop=True)
    mine = asked[t.usable].reset_index(drop=True)
    for k in asked: # large files may be decoded smaller; these are not large
        same = np.isclose(mine[k], again[k], atol=1e-4) if pd.api.types.is_float_dtype(mine[k]) else mine[k]==again[k]
        assert same.all(), f"{k}: {t.path[t.usable][~same].tolist()}"
    for o in sound+paths+[table]: o.unlink()
    return Counter(answered=int(t.usable.sum()), blank=int((~t.usable & blank).sum()), unreadable=len(out))

if __name__=='__main__':
    warnings.filterwarnings('ignore')
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for k,v in dict(seed=0, n=2000).items(): ap.add_argument(f'--{k}', type=int, default=v)
    ap.add_argument('--run')
    arg = ap.parse_args()
    where = tempfile.mkdtemp(prefix='attack-images-')
    if arg.run: print(f"{arg.n} damaged images, seed {arg.seed}: {dict(judge(arg.run, arg.seed, arg.n, where))}; no disagreement")
    else:
        for (fmt,said),k in sorted(attack(arg.seed, arg.n, where).items()): print(f'{k:6} {fmt:9} {said}')
        print(f'{arg.n} damaged images, seed {arg.seed}: no unforeseen exception, none took {SECONDS} s')
