"""Prepare a release of the small nets that the library brings (landmarks, cup, and what comes): `python .ci/release_nets.py --to DIR`.

Every `*.safetensors` of the package is taken, with the card that lies beside it; DIR holds, for each folder of them, the nets, a card as the
Hugging Face hub reads it, the terms of the data that the card names, and digests. Nothing is sent: `hf upload ORG/NAME DIR` does that.
It exits 1 where a net has no card, or holds notes or numbers that it should not.
"""
import argparse, re, shutil, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))

def nets_of(lib):
    "Folder -> its nets"
    found = {}
    for f in sorted(lib.rglob('*.safetensors')): found.setdefault(f.parent, []).append(f)
    return found

def check_net(f, card):
    "Exit where a net is not named by its card, holds notes, or numbers that are none"
    from safetensors import safe_open
    if f.name not in card: sys.exit(f"{f.name}: the card beside it does not name it")
    with safe_open(f, 'pt') as s:
        if s.metadata(): sys.exit(f"{f.name} holds notes: {sorted(s.metadata())}")
        if bad := [k for k in s.keys() if not s.get_tensor(k).isfinite().all()]: sys.exit(f"{f.name} holds values that are no numbers: {bad[0]}")

def data_named(card):
    "Cards of the catalog whose data the text `card` names"
    from fundus_fastai.data.catalog import cards
    return [o for k,o in cards.items() if o.kaggle and re.search(re.match('[a-z]+', k)[0], card, re.I)]

def terms_page(title, card):
    "What the nets may be used for, by the data that their card names"
    from fundus_fastai.data.catalog import PURPOSE
    rows = [f'# Terms of: {title}', PURPOSE, '## Phantoms', 'Drawn by the library that the nets are of: they have no terms.']
    for o in data_named(card): rows += [f'## {o.title} ({o.name})', f'{o.license}. {o.url}', f'To be cited: {o.cite}.']
    return '\n\n'.join([*rows, '## Others', 'What the card names beside these has terms of its own, which this file does not know.'])+'\n'

def front(name):
    "What machines read of the card"
    from huggingface_hub import ModelCardData
    tags = ['ophthalmology','retina','phantom','not-a-medical-device']
    return f"---\n{ModelCardData(license='apache-2.0', library_name='fundus_fastai', tags=tags, model_name=name).to_yaml()}\n---\n"

def release(lib, to):
    "Fill the folder `to`; its files"
    from fundus_fastai.core import fresh_dir, sha256, write_text
    fresh_dir(to)
    for folder,nets in nets_of(lib).items():
        beside,out = folder/'CARD.md',to/folder.name
        if not beside.exists(): sys.exit(f"{folder.name} has nets and no CARD.md")
        card = beside.read_text(encoding='utf-8')
        for f in nets:
            check_net(f, card)
            out.mkdir(exist_ok=True)
            shutil.copy(f, out/f.name)
        title = f'the nets of fundus_fastai.{folder.name}'
        said = '**Not a medical device.** Taught by phantoms; what of real eyes was used besides stands below.'
        write_text(out/'README.md', front(f'fundus_fastai {folder.name}')+card.replace('\n', f'\n\n{said}\n', 1))
        write_text(out/'TERMS.md', terms_page(title, card))
        shutil.copy(root/'CITATION.cff', out)
        rows = [f'{sha256(o)}  {o.name}\n' for o in sorted(out.iterdir())]
        write_text(out/'SHA256SUMS', ''.join(rows))
    return sorted(o for o in to.rglob('*') if o.is_file())

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--to', required=True, type=Path, help='a new folder')
    a = p.parse_args()
    for o in release(root/'fundus_fastai', a.to): print(f'{o.stat().st_size:>10,}  {o.relative_to(a.to)}')
    print(f'ready: hf upload ORG/NAME {a.to}')
