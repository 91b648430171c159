"""Teach a small net on phantoms and write the page that asks it: the demo of the docs site.

    python .ci/demo_page.py _docs/demo
"""
import shutil, sys, tempfile, torch
from pathlib import Path
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run.train import train_run
from fundus_fastai.ship.page import page_run

def main(to, patients=160, epochs=12):
    with tempfile.TemporaryDirectory() as d:
        opts = TrainOptions('resnet10t', weights='none', size=128, bs=16, epochs=epochs)
        s = train_run('oct', DataOptions(patients=patients), opts, maps=0, out=Path(d)/'run')
        print(s.metrics['auc'])
        print(page_run(Path(d)/'run', to, force=True))
        if '--keep' in sys.argv: shutil.copytree(Path(d)/'run', f'{to}-run', dirs_exist_ok=True)

if __name__=='__main__': main(sys.argv[1], *map(int, [o for o in sys.argv[2:] if o.isdigit()]))
