"""What a net weighs and takes that is given away: python tests/benchmarks/page.py [RUN...] [--nets ARCH:SIDE...] [--only files,pages] [--shot PNG] [--out speed.json]

Each RUN is a run folder; the --nets beside them have random weights and phantom photographs, for what they know changes no second. A row a net:
  files   MB and milliseconds a picture, as ONNX of 32, 16 and 8 bits, on one thread, the quickest of 25 that take turns
  pages   in Chromium without a window: seconds until the page is ready, from a dropped file to its answer, until the coarse and until the whole map,
          each of --rounds opened pages; the largest difference of a probability from the Learner's; what was asked for beside the page's own files
With --out they go to the part `given` of that file, with the day, the versions, and the machine's load beside them. No picture but phantoms."""
import argparse, json, os, sys, tempfile, threading, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ.setdefault(k, '1')
from datetime import date
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from browser import Chromium, elsewhere
from nets import frame
from PIL import Image
from fundus_fastai.core import read_json, write_json
from fundus_fastai.options import TrainOptions
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.oct import phantom_oct
from fundus_fastai.ship import export as E
from fundus_fastai.ship.onnx import OnnxNet, read_onnx, write_onnx
from fundus_fastai.ship.page import page_run, page_server
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.steps import make_learner
import onnxruntime # after ours, which keep it from reporting to its makers

LOOK = """window.said = []; window.windows = {}
const at = (id, act, what) => new MutationObserver(act).observe(document.getElementById(id), what)
addEventListener('DOMContentLoaded', () => {
  at('state', () => said.push([performance.now()/1000, document.getElementById('state').textContent]), {childList:true, characterData:true, subtree:true})
  at('bar', () => { const [stage, , , n] = document.getElementById('bar').title.split(/[ :]+/); windows[stage] = Number(n) }, {attributeFilter:['title']})
})"""

def load():
    "How many programs wanted a core in the last minute"
    return round(os.getloadavg()[0])

def untaught(name, to):
    "A run folder of a net with random weights"
    arch,side = name.split(':')
    df = frame(12)
    df.attrs.update(source='phantom', name='x', root='.')
    learn = make_learner(df, 'anomaly', TrainOptions(arch, weights='none', size=int(side), bs=4, workers=0))
    return save_model(learn, to/name.replace(':', '-'), 'anomaly', source='phantom', data='odir5k')

def quickest(fs, rounds=25):
    "Milliseconds of each, the quickest of those that take turns"
    best = [np.inf]*len(fs)
    for _ in range(rounds+1):
        for i,f in enumerate(fs):
            t = time.perf_counter()
            f()
            best[i] = min(best[i], 1e3*(time.perf_counter()-t))
    return best

def forms(run, to):
    "The files of 32, 16 and 8 bits of a net, the last one fitted to drawn eyes"
    E.exporters = dict(torchscript=E.by_torchscript)
    E.export_run(run, one := to/'fp32.onnx', force=True)
    E.export_run(run, half := to/'fp16.onnx', fp16=True, force=True)
    notes,net = read_onnx(one)[1],OnnxNet(one)
    few = [E.net_picture(o, net.recipe, notes['size'], gray=net.gray) for o in E.drawn_eyes(notes['image'], 32)]
    (eight := to/'int8.onnx').write_bytes(one.read_bytes())
    E.to_int8(eight, np.stack(few))
    write_onnx(eight, E.need('onnx').load(eight), {k:v for k,v in notes.items() if k not in ('library','format')}|dict(form='-int8'))
    return {o.stem:o for o in (one,half,eight)}

def weighed(run, to):
    "A row of `files`"
    learn,made = load_model(run, 'cpu'),forms(run, to)
    side = learn.config['size']
    x,y,nets = np.zeros((1,side,side,3), np.uint8),torch.zeros(1, 3, side, side),{k:OnnxNet(f) for k,f in made.items()}
    with torch.no_grad(): own,*ms = quickest([lambda: learn.model(y), *(lambda o=o: o.ask(x) for o in nets.values())])
    mb = {k:f.stat().st_size/1e6 for k,f in made.items()}
    return dict(net=learn.config['arch'], size=side, load=load(), mb=mb, torch_ms=own, ms=dict(zip(nets, ms)))

def waited(p, said, since=0., seconds=600):
    "When, after `since`, the page first said something with `said` in it"
    return p.wait(f"(said.find(o => o[0]>{since} && o[1].includes('{said}')) || [])[0]", seconds)

def asked_once(b, url, eye):
    "Seconds of one opened page, and its answers to the file `eye`"
    p = b.page(url, before=LOOK)
    opened = waited(p, 'Ready')
    p.drop(eye)
    start = waited(p, 'Reading')
    answer = waited(p, 'Answered')
    chances = dict(p.run("[...document.querySelectorAll('#chances tr')].map(o => [o.cells[0].textContent, o.querySelector('meter').value])"))
    p.run("document.getElementById('go').click()")
    go = waited(p, 'Covering')
    coarse,whole = (waited(p, o, go)-go for o in ('coarse map is there','The map is whole'))
    return p,dict(open=opened, answer=answer-start, coarse=coarse, whole=whole),chances

def looked_at(run, to, rounds, shot):
    "A row of `pages`"
    learn = load_model(run, 'cpu')
    E.export_run(run, f := to/'page.onnx', force=True)
    page_run(f, folder := to/'page', force=True)
    net,cfg,eye = OnnxNet(f),learn.config,to/'phantom.png'
    gray = net.gray
    im = phantom_oct('DME', 85, 7).image if gray else phantom_fundus(['diabetic retinopathy'], 85, 7, size=1024).image
    Image.fromarray(im).save(eye)
    t = learn.predict_frame(list(learn.open_eyes([eye])))
    warm = net.config['temperature'] or 1
    want = t[net.config['columns']].to_numpy(float)[0]**(1/warm)
    server = page_server(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url,rows,off = f'http://127.0.0.1:{server.server_port}/',[],0
    with tempfile.TemporaryDirectory() as home:
        with Chromium(home) as b:
            version = b('Browser.getVersion')['product'].replace('Headless', '')
            for _ in range(rounds):
                p,row,chances = asked_once(b, url, eye)
                off = max(off, max(abs(chances[c]-v) for c,v in zip(cfg['classes'], want/want.sum())))
                rows.append(row)
            n = p.run('windows')
            if shot:
                p.look((640,900))
                end = p.run("document.getElementById('why').getBoundingClientRect().bottom+scrollY")
                p.shot(shot, clip=(0,0,640,end+12))
                Image.open(shot).convert('RGB').quantize(256, dither=Image.Dither.NONE).save(shot, optimize=True)
        asked = b.asked()
    server.shutdown()
    server.server_close()
    return dict(net=cfg['arch'], size=cfg['size'], load=load(), windows=n, image='oct' if gray else 'photograph', pixels=list(im.shape[:2]), mb=f.stat().st_size/1e6,
                page_mb=sum(o.stat().st_size for o in folder.iterdir())/1e6, off=off, browser=version,
                seconds={k:[round(o[k], 2) for o in rows] for k in rows[0]}, elsewhere=elsewhere(asked, url))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('runs', nargs='*', type=Path)
    p.add_argument('--nets', nargs='*', default=['squeezenet1_1:224'])
    p.add_argument('--only', default='files,pages')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--shot')
    p.add_argument('--out')
    o = p.parse_args()
    torch.set_num_threads(1)
    res = dict(date=str(date.today()), cores=os.cpu_count(), threads=1, torch=torch.__version__, onnxruntime=onnxruntime.__version__)
    with tempfile.TemporaryDirectory() as d:
        nets = [*o.runs, *(untaught(k, Path(d)) for k in o.nets)]
        for part,f in dict(files=lambda run: weighed(run, Path(d)), pages=lambda run: looked_at(run, Path(d), o.rounds, o.shot if run==nets[0] else None)).items():
            if part not in o.only: continue
            res[part] = []
            for run in nets:
                res[part].append(f(run))
                print(part, json.dumps(res[part][-1]), flush=True)
    if not o.out: return
    old = read_json(o.out) if Path(o.out).exists() else {}
    write_json(o.out, old|dict(given=old.get('given', {})|res))

if __name__=='__main__': main()
