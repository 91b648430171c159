"""Some requests a second on the app, for some minutes: errors, seconds, memory before and after.

    python tests/benchmarks/app.py --minutes 60 --rate 2 [--run RUN] [--keep 120]

Nine of ten requests are POST /predict with a phantom; each tenth is what a browser does: load the page, upload, read, and each
fortieth of all asks for a map. All go out when their time has come, whether or not those before have been answered.
Who is told to come again (503) does so, each time a second later, and is counted; the seconds told are from the first try on.
The server is a process of its own on this machine, and so shares its cores with this program.
"""
import argparse, contextlib, json, subprocess, sys, tempfile, threading, time, uuid
import httpx, numpy as np, psutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fundus_fastai.ship.page import phantoms

def make_run(to):
    "An untrained EfficientNet-Lite0 at 224 pixels: as slow as a trained one"
    from fundus_fastai.options import TrainOptions
    from fundus_fastai.phantom.oct import write_kermany
    from fundus_fastai.vision.model import save_model
    from fundus_fastai.vision.steps import load_frame, make_learner, split_frame
    write_kermany(to/'oct', patients=8, seed=1)
    opts = TrainOptions('efficientnet_lite0', weights='none', size=224, bs=4, workers=0)
    return save_model(make_learner(split_frame(load_frame('oct', to/'oct')), 'oct', opts), to/'run', 'oct', source='phantom', data='kermany2018')

CODE = """import sys
from fundus_fastai.app import page as P
from fundus_fastai.app.reader import Reader
with P.own_cache(float(sys.argv[3])):
    page = P.launch(Reader(sys.argv[1]), port=int(sys.argv[2]))
    P.until_stopped()"""

@contextlib.contextmanager
def server(run, keep):
    from fundus_fastai.app.page import free_port
    port = free_port()
    p = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', CODE, str(run), str(port), str(keep)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    url = f'http://127.0.0.1:{port}'
    try:
        while True:
            with contextlib.suppress(httpx.TransportError): httpx.get(url, timeout=60).raise_for_status(); break
            if p.poll() is not None: raise SystemExit("the app has ended by itself")
            time.sleep(.3)
        yield url,psutil.Process(p.pid)
    finally:
        p.terminate()
        p.wait(20)

class Client:
    def __init__(self, url, image='oct'):
        self.http,self.files = httpx.Client(base_url=url, timeout=300, limits=httpx.Limits(max_connections=64)),list(phantoms(image).items())
        deps = self.http.get('/config').json()['dependencies']
        self.read,self.why,self.choose = (next(o['id'] for o in deps if o['api_name']==k) for k in ('read','why','choose'))
        self.done,self.again,self.lock = [],0,threading.Lock()
    def predict(self, k):
        name,raw = self.files[k%3]
        r = self.http.post('/predict', files=dict(file=(name,raw)))
        r.raise_for_status()
        if not r.json()['answers'][0]['usable']: raise ValueError(r.text)
    def act(self, session, fn, data):
        "One act of the page, as its script asks for it; what came back"
        self.http.post('/gradio_api/queue/join', json=dict(fn_index=fn, session_hash=session, data=data)).raise_for_status()
        with self.http.stream('GET', '/gradio_api/queue/data', params=dict(session_hash=session)) as r:
            for line in r.iter_lines():
                o = json.loads(line[6:]) if line.startswith('data: ') else {}
                if o.get('msg')=='process_completed':
                    if not o['success']: raise ValueError(str(o)[:300])
                    return o['output']['data']
        raise ValueError("no answer came")
    def browse(self, k, why=False):
        name,raw = self.files[k%3]
        self.http.get('/').raise_for_status()
        path = self.http.post('/gradio_api/upload', files=dict(files=(name,raw))).raise_for_status().json()[0]
        session = uuid.uuid4().hex[:11]
        shown = self.act(session, self.read, [[dict(path=path, orig_name=name, meta=dict(_type='gradio.FileData'))], False])
        if '%' not in str(shown): raise ValueError(str(shown)[:300])
        if not why: return
        k = shown[2]['value'] # of the menu of pictures
        self.http.post('/gradio_api/run/predict', json=dict(fn_index=self.choose, session_hash=session, data=[None,k])).raise_for_status()
        if 'url' not in str(self.act(session, self.why, [None,k,None,'occlusion',''])): raise ValueError("no map")
    def until_served(self, f, *args):
        for tries in range(1000):
            try: return f(*args)
            except httpx.HTTPStatusError as e:
                if e.response.status_code!=503: raise
            with self.lock: self.again += 1
            time.sleep(min(10, 1+tries))
    def ask(self, k):
        what = 'map' if k%40==39 else 'page' if k%10==9 else 'predict'
        t,bad = time.time(),''
        try: self.until_served(self.predict, k) if what=='predict' else self.until_served(self.browse, k, what=='map')
        except Exception as e: bad = f'{type(e).__name__}: {e}'[:200]
        with self.lock: self.done.append((what,time.time()-t,bad))

def main(minutes, rate, run, keep):
    with tempfile.TemporaryDirectory() as d:
        run = run or make_run(Path(d))
        with server(run, keep) as (url,p):
            c = Client(url)
            for k in (0,9,39): c.ask(k) # warm
            if any(o[2] for o in c.done): raise SystemExit(str(c.done))
            c.done.clear()
            mb,n = lambda: p.memory_info().rss/1e6,round(60*minutes*rate)
            print(f'{"minute":>6} {"asked":>6} {"done":>6} {"again":>6} {"errors":>6} {"MB":>6} {"load":>5}', flush=True)
            first,t0,rows = mb(),time.time(),[]
            with ThreadPoolExecutor(64) as pool:
                for k in range(n):
                    time.sleep(max(0, t0+k/rate-time.time()))
                    pool.submit(c.ask, k)
                    if k%round(60*rate)==0:
                        rows.append(mb())
                        bad = sum(bool(o[2]) for o in c.done)
                        print(f'{k/rate/60:6.0f} {k:6} {len(c.done):6} {c.again:6} {bad:6} {rows[-1]:6.0f} {psutil.getloadavg()[0]:5.1f}', flush=True)
            took = time.time()-t0
            print(f'\n{n} requests in {took:.0f} s, {sum(bool(o[2]) for o in c.done)} errors, told to come again {c.again} times; memory {first:.0f} MB before, {mb():.0f} MB after, load {psutil.getloadavg()[0]:.1f}')
            for what in ('predict','page','map'):
                s = [o[1] for o in c.done if o[0]==what]
                if s: print(f'{what:8} n {len(s):5}  median {np.median(s):6.2f} s  95 % {np.quantile(s, .95):6.2f} s  longest {max(s):6.2f} s')
            for o in sorted({o[2] for o in c.done if o[2]})[:5]: print('error:', o)

if __name__=='__main__':
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--minutes', type=float, default=60)
    a.add_argument('--rate', type=float, default=2)
    a.add_argument('--run', help="run folder (default: an untrained EfficientNet-Lite0)")
    a.add_argument('--keep', type=float, default=120, help="seconds that an upload lives (the app's own: 600)")
    main(**vars(a.parse_args()))
