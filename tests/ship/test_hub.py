"Publishing, with the hub's real client against a stub of its API: what leaves, what does not, what goes wrong"
import base64, errno, json, shutil
from pathlib import Path
import numpy as np, onnx, pandas as pd, pytest
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, DownloadError, ModelError, read_json, write_json
from fundus_fastai.ship import export as E, hub as H
from fundus_fastai.ship.export import export_run
from fundus_fastai.ship.hub import pack_run, publish_run
from fundus_fastai.ship.onnx import read_onnx
from stub_models import ModelHub

HERE = Path(__file__).parent.parent/'run/old_run'
SENT = {'README.md','TERMS.md','config.json','metrics.json','model.safetensors','SHA256SUMS'}

@pytest.fixture(scope='module', autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as m:
        m.setattr(E, 'exporters', dict(torchscript=E.by_torchscript))
        yield

@pytest.fixture
def hub():
    with ModelHub() as h, h.as_endpoint(): yield h

@pytest.fixture
def run(tmp_path): return Path(shutil.copytree(HERE/'run', tmp_path/'run'))

@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    "What leaves of the run, made once"
    d = tmp_path_factory.mktemp('pack')/'p'
    return d,pack_run(HERE/'run', d, onnx=False)

@pytest.fixture
def packed(kept, monkeypatch):
    "For tests of the sending alone"
    def pack(run, to, **kw): shutil.copytree(kept[0], to, dirs_exist_ok=True); return kept[1]
    monkeypatch.setattr(H, 'pack_run', pack)

def publish(run, to='eyes/oct', **kw): return publish_run(run, to, accept_terms=True, **dict(onnx=False)|kw)
def files_of(hub, name='eyes/oct'): return hub.at(name, 'main')[1]

def test_what_is_there_afterwards(hub, run):
    said = publish(run)
    files,(sha,_) = files_of(hub),hub.at('eyes/oct', 'main')
    assert set(files)==SENT and f'hf://eyes/oct@{sha}' in said and len(hub.repos['eyes/oct'])==2
    assert files['model.safetensors']==(run/'model.safetensors').read_bytes()
    assert b'license: apache-2.0' in files['README.md'] and b'PHANTOM' in files['README.md'] and b'Not a medical device' in files['TERMS.md']

SECRETS = ['ANNA-MILLER-1961','ward7-secret','geheim.dcm']

def plant(run):
    "Names of patients, files and folders everywhere that a run has room for them"
    for f in ('split.csv','predictions.csv','validation.csv'):
        t = pd.read_csv(run/f, dtype=str, keep_default_na=False)
        t.loc[0,'path'] = 'ward7-secret/ANNA-MILLER-1961.jpeg'
        t.loc[0,'patient'] = 'ANNA-MILLER-1961'
        t.to_csv(run/f, index=False)
    c = read_json(run/'config.json')
    write_json(run/'config.json', c|dict(label=SECRETS[0], weights='ward7-secret.pth', data='ward7-secret.csv', patients=SECRETS, split_hash=SECRETS[1],
               provenance=dict(table='geheim.dcm', command=f'fundus train --data {SECRETS[1]}', left_out={SECRETS[0]:1}),
               read=dict(c['read'], why=SECRETS[2]), training=dict(c['training'], weights=SECRETS[1], data=SECRETS[2])))
    m = read_json(run/'metrics.json')
    write_json(run/'metrics.json', m|dict(patients=SECRETS, worst=[dict(path=SECRETS[0])]))
    r = read_json(run/'report.json')
    picture = base64.b64encode(b'\xff\xd8\xff\xe0 a picture of ANNA-MILLER-1961').decode()
    r['parts'] = [dict(title='Most wrong', body=[SECRETS[0]], figures=[dict(kind='scan', type='jpeg', code=picture, caption=SECRETS[1])])]
    write_json(run/'report.json', r)
    write_json(run/'audit.json', [dict(check='leaks', found=1, of=2, remark=SECRETS[0])])
    for o in ('README.md','report.html','history.csv','SHA256SUMS','notes.txt','compare.png','TERMS.md'): (run/o).write_bytes(b'\xff\xd8\xff\xe0 ANNA-MILLER-1961 ward7-secret geheim.dcm')
    for o in ('maps','evaluation','checkpoints'):
        (run/o).mkdir(); (run/o/'ANNA-MILLER-1961.png').write_bytes(b'\xff\xd8\xff\xe0 geheim.dcm')
    return picture

def test_nobody_leaves(hub, run):
    "Every byte that came to the hub is looked at: addresses, headers, bodies, files"
    export_run(run)
    notes = read_onnx(run/'model.onnx')[1]
    notes = {k:v for k,v in notes.items() if k not in ('library','format')}|dict(data='ward7-secret', source='geheim.dcm', patients=SECRETS)
    E.write_onnx(run/'model.onnx', onnx.load(run/'model.onnx'), notes)
    picture = plant(run)
    publish(run, onnx=True, terms='by contract')
    assert set(files_of(hub))==SENT|{'model.onnx'}
    told = hub.bytes_sent+b''.join(files_of(hub).values())
    for o in (*SECRETS, picture, str(run), str(run.parent.parent), 'checkpoints'): assert o.encode() not in told, o
    assert b'\xff\xd8\xff\xe0' not in told and len(told)>2*len((run/'model.safetensors').read_bytes())
    t = pd.read_csv(run/'split.csv', dtype=str)
    for o in {*t.path, *(Path(o).name for o in t.path)}: assert o.encode() not in told, o

def test_a_name_in_what_may_leave_stops_all(hub, run):
    plant(run)
    c = read_json(run/'config.json')
    write_json(run/'config.json', c|dict(note='ANNA-MILLER-1961 was left out.'))
    with pytest.raises(DataError, match="names .* of the run's patients"): publish(run, terms='by contract')
    assert hub.sent==[]

def test_terms_come_first(hub, run):
    with pytest.raises(DataError, match='(?s)no terms.*accept_terms=True') as e: publish_run(run, 'eyes/oct')
    assert 'Not a medical device' in str(e.value)
    c = read_json(run/'config.json')
    write_json(run/'config.json', c|dict(source='local', data='csv'))
    with pytest.raises(DataError, match='terms=TEXT'): publish(run)
    assert hub.sent==[]
    publish(run, terms='Given by a clinic for research [x](y)')
    assert b'Given by a clinic for research &#91;x' in files_of(hub)['TERMS.md'] and b'license: other' in files_of(hub)['README.md']
    assert read_json_bytes(files_of(hub)['config.json'])['terms'].startswith('Given by')

def read_json_bytes(b): return json.loads(b)

def test_a_dry_run_sends_nothing(hub, run, packed):
    said = publish_run(run, 'eyes/oct', dry_run=True, onnx=False)
    assert hub.sent==[] and all(o in said for o in SENT) and 'nothing was sent' in said

@pytest.mark.parametrize('to', ['eyes/oct.git','eyes/oct--x','eyes/oct-','eyes/'+'a'*100])
def test_a_name_that_the_hub_does_not_take(hub, run, to):
    "Is told before anything is packed, in a dry run, too"
    for dry in (True,False):
        with pytest.raises(DownloadError, match='takes no such name'): publish(run, to, dry_run=dry)
    assert hub.sent==[]

def test_again_and_what_is_left_over_goes(hub, run, packed):
    "An ONNX file of another net would answer for this one"
    hub.add('eyes/oct', {'model.onnx':b'of another', 'config.json':b'{}', 'light/README.md':b'x'})
    publish(run)
    assert set(files_of(hub))==SENT and len(hub.repos['eyes/oct'])==2

def test_other_peoples_files(hub, run, packed):
    hub.add('eyes/oct', {'.gitattributes':b'', 'pytorch_model.bin':b'x'})
    with pytest.raises(DataError, match='has not written .pytorch_model.bin'): publish(run)
    assert len(hub.repos['eyes/oct'])==1

@pytest.mark.parametrize('kind,deed,says', [
    ('info',401,'does not know who asks'), ('info',403,'does not let you'), ('create',401,'does not know who asks'), ('create',403,'does not let you'),
    ('preupload',404,'no such model'), ('put',403,'.'), ('commit',403,'does not let you'), ('commit',500,r'an error \(500\)'), ('commit','change','changed by another'),
    ('commit','drop','cannot be reached'), ('info','drop','cannot be reached')])
def test_refusals(hub, run, packed, kind, deed, says, monkeypatch):
    "A sentence, and nothing half"
    monkeypatch.setattr('huggingface_hub.utils._http.time.sleep', lambda s: None)
    hub.deeds[kind] = deed
    with pytest.raises(DownloadError, match=says) as e: publish(run)
    assert '\n' not in str(e.value) and 'eyes/oct' in str(e.value)
    assert all(set(files)<={'other.txt'} for _,files in hub.repos.get('eyes/oct', []))

def test_stopped_once_the_repository_is_made(hub, run, packed, monkeypatch, capsys):
    "Ctrl-C while weights were sent left an empty repository, and nobody was told"
    def stop(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr('huggingface_hub.HfApi.create_commit', stop)
    assert main(['publish', run, '--to', 'eyes/oct', '--accept-terms', '--no-onnx'])==130
    assert 'eyes/oct was made for this, and may be empty' in capsys.readouterr().err and files_of(hub)=={}

def test_the_hub_is_not_there(run, packed, monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(DownloadError, match='cannot be reached.*check the network'): publish(run)

def test_no_room_to_pack(hub, run, monkeypatch):
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(H, 'seal_all', full)
    with pytest.raises(OSError, match='No space'): publish(run)
    assert hub.sent==[]

def test_the_command(hub, run, packed, capsys):
    assert main(['publish', run, '--to', 'eyes/oct', '--no-onnx'])==1 and '--accept-terms' in capsys.readouterr().err
    assert main(['publish', run, '--to', 'oct', '--accept-terms'])==1 and '--to' in capsys.readouterr().err
    assert main(['publish', run, '--to', 'eyes/oct', '--no-onnx', '--accept-terms'])==0 and 'hf://eyes/oct@' in capsys.readouterr().out

# --- a pair

@pytest.fixture
def pair(tmp_path, monkeypatch):
    "The folder of a comparison as `fundus compare` leaves it: two runs of one net, two picks"
    from fundus_fastai.run import compare as C
    d = tmp_path/'cmp'
    for o in ('most_accurate','light'): shutil.copytree(HERE/'run', d/o)
    (d/'comparison.json').write_text('{}'); (d/'compare.png').write_bytes(b'\xff\xd8\xff\xe0 a patient')
    nets = pd.DataFrame(dict(arch=['big_net','[small](javascript:1)'], valid=[.9,.89], valid_low=[.8,.8], valid_high=[.95,.95], test=[.88,np.nan], test_low=[.8,np.nan],
                             test_high=[.9,np.nan], file_mb=[90.,5.], picked=['most accurate','light'], seeds=['1','1']))
    c = C.Comparison(nets, nets, 'auc', C.get_kind('category'), 'oct', 'phantom', 'test', dict(valid=(40,20), test=(60,30)), 'big_net', '[small](javascript:1)')
    monkeypatch.setattr(H, 'read_comparison', lambda run: c)
    return d

def test_two_nets_and_their_figure(hub, pair, packed):
    said = publish(pair)
    files,(sha,_) = files_of(hub),hub.at('eyes/oct', 'main')
    assert set(files)=={f'{p}/{o}' for p in ('most_accurate','light') for o in SENT}|{'README.md','compare.png'}
    assert files['compare.png'][:4]==b'\x89PNG' and b'a patient' not in hub.bytes_sent
    card = files['README.md'].decode()
    assert '0.900 (0.800 to 0.950)' in card and '](compare.png)' in card and 'PHANTOM' in card and '](javascript' not in card
    assert said.endswith(f'hf://eyes/oct@{sha}/most_accurate\nhf://eyes/oct@{sha}/light')

def test_a_comparison_without_picks(hub, pair, monkeypatch):
    c = H.read_comparison(pair)
    c.most_accurate = None
    with pytest.raises(DataError, match='picked no net yet'): publish(pair)
