"""Damage archives by the thousand and download each: `python tests/attack/archives.py [--n 2000] [--seed 0] [--flips]`.

Minutes, not in CI; a sample is in tests/data/test_kaggle.py.

A local stub of Kaggle first sends the damaged archive, and the sound one from then on. Whatever the damage: at the end the folder holds
what the sound archive holds, or the call said `BadArchive` and the next one brings it; no other exception, and nothing beside the folder.
Two batteries: random mutations of zips (stored, deflate, bzip2, lzma), and every single-bit flip of a central directory and its end record.
"""
import argparse, contextlib, io, os, random, shutil, struct, sys, tempfile, time, zipfile
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, str(Path(__file__).parents[1]))
from stub_kaggle import KaggleStub, make_zip
from fundus_fastai.data.kaggle import BadArchive, download

NAMES = ['OCT/train/a.jpeg','OCT/train/b.jpeg','OCT/test/c.jpeg','OCT/table.csv','OCT/empty.txt','OCT/é.jpeg','__MACOSX/._x','OCT/new/']
METHODS = dict(stored=zipfile.ZIP_STORED, deflate=zipfile.ZIP_DEFLATED, bzip2=zipfile.ZIP_BZIP2, lzma=zipfile.ZIP_LZMA)
CARD = SimpleNamespace(name='eyes', kaggle='ada/eyes', kind='dataset', gb=0, gb_unpacked=0, license='?', url='https://example.org')

def contents(seed=0):
    "A little data set: name -> bytes"
    draw = random.Random(seed)
    return {k:b'' if k[-1]=='/' or 'empty' in k else draw.randbytes(60)+b'eye,grade\n'*draw.randint(5, 40) for k in NAMES}

def kept(tree): return {k:v for k,v in tree.items() if k[-1]!='/' and '__MACOSX' not in k}

def directory(z):
    "First byte of the central directory of the archive `z`"
    return struct.unpack('<I', z[z.rindex(b'PK\5\6')+16:][:4])[0]

def flips(z):
    "Every single-bit flip from the central directory to the end"
    for bit in range(8*directory(z), 8*len(z)):
        b = bytearray(z)
        b[bit//8] ^= 1 << bit%8
        yield f'bit {bit}', bytes(b)

def mutations(n, seed=0):
    "Random damage: bytes, runs, cuts, copies, fields of headers, two archives mixed"
    draw = random.Random(seed)
    for k in range(n):
        name = draw.choice(list(METHODS))
        z = bytearray(make_zip(contents(), compression=METHODS[name]))
        how = draw.choice(['bytes','run','cut','drop','double','field','tail','mix'])
        a = draw.randrange(len(z))
        if how=='bytes':
            for _ in range(draw.randint(1, 8)): z[draw.randrange(len(z))] = draw.randrange(256)
        if how=='run': z[a:a+draw.randint(1, 99)] = draw.randbytes(draw.randint(1, 99))
        if how=='cut': del z[a:]
        if how=='drop': del z[a:a+draw.randint(1, 99)]
        if how=='double': z[a:a] = z[a:a+draw.randint(1, 99)]
        if how=='field':
            at = draw.choice([i for i in range(len(z)) if z[i:i+4] in (b'PK\1\2', b'PK\3\4', b'PK\5\6')])+draw.randrange(4, 46)
            z[at:at+draw.choice([1,2,4])] = draw.choice([b'\0', b'\xff', b'\xff\xff', b'\0\0', draw.randbytes(4)])
        if how=='tail': z += draw.randbytes(draw.randint(1, 70_000))
        if how=='mix': # not in the head of the first member, or the result is the other archive, and sound
            a = draw.randrange(100, directory(z))
            z[a:] = make_zip(contents(1), compression=METHODS[name])[a:]
        yield f'{k} {name} {how}', bytes(z)

def outcome(stub, bad, good, root):
    "Download into `root` while the stub serves `bad` once and then `good`; what came of it"
    to,want,said = root/'eyes',kept(contents()),'healed'
    stub.body,stub.store = good,[('garbage', bad)]
    n = len(stub.log)
    try: download(CARD, to, pause=.001)
    except BadArchive as e:
        said = f'refused: {type(e).__name__}'
        left = [o.name for o in root.iterdir()]
        if left: return f'WRONG: left {left}'
        download(CARD, to, pause=.001)
    else:
        if sum(o=='store' for o,_ in stub.log[n:])==1: said = 'taken'
    have = {o.relative_to(to).as_posix():o.read_bytes() for o in to.rglob('*') if o.is_file() and o.name!='PROVENANCE.json'}
    left = [o.name for o in root.iterdir()]
    shutil.rmtree(to)
    return said if have==want and left==['eyes'] else f'WRONG: {len(have)} files of {len(want)}, {left}'

def battery(cases, good):
    "Counts of the outcomes of `cases`, and those that are wrong"
    counts,wrong = {},[]
    token = os.environ.get('KAGGLE_API_TOKEN')
    os.environ |= {'KAGGLE_API_TOKEN':'KGAT_stub', 'NO_PROXY':'*'}
    try:
        with tempfile.TemporaryDirectory() as d, KaggleStub(good) as stub, stub.as_kaggle(), contextlib.redirect_stderr(io.StringIO()):
            for name,bad in cases:
                try: said = outcome(stub, bad, good, Path(d))
                except Exception as e: said = f'WRONG: {type(e).__name__}: {e}'
                if said[:5]=='WRONG':
                    wrong.append((name, said))
                    shutil.rmtree(Path(d)/'eyes', ignore_errors=True)
                counts[said.partition(':')[0]] = counts.get(said.partition(':')[0], 0)+1
    finally:
        del os.environ['KAGGLE_API_TOKEN']
        if token: os.environ['KAGGLE_API_TOKEN'] = token
    return counts, wrong

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=2000, help='mutated zips')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--flips', action='store_true', help='also every single-bit flip of a central directory')
    o,good = p.parse_args(),make_zip(contents())
    for what,cases in dict(mutations=mutations(o.n, o.seed), flips=flips(good) if o.flips else ()).items():
        t = time.time()
        counts,wrong = battery(cases, good)
        print(f'{what}: {counts}, {time.time()-t:.0f} s')
        for w in wrong[:20]: print('  ', *w)
        if wrong: sys.exit(1)
