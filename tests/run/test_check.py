"fundus check: everything that is wrong with a table or a folder, at once"
import subprocess, sys
import pandas as pd, pytest
from fundus_fastai.core import DataError
from fundus_fastai.cli import main
from fundus_fastai.data.catalog import make_phantom
from fundus_fastai.run.check import check_data, check_named
from made import eyes

@pytest.fixture
def clinic(tmp_path):
    eyes(tmp_path, [f'e{k}.jpg' for k in range(6)])
    (tmp_path/'e5.jpg').write_bytes((tmp_path/'e5.jpg').read_bytes()[:300])
    rows = ['File,Diagnosis,MRN,Age', 'E0.JPG,DME,1,61', 'e1.jpg,dme,1.0,>89', 'e2.jpg,normal,2,50', 'e3.jpg,?,2,50', 'e4.jpg,normal,,70', 'e5.jpg,DME,3,70',
            'e55.jpg,DME,x4,70']
    (tmp_path/'t.csv').write_text('\n'.join(rows))
    (tmp_path/'run').mkdir()
    (tmp_path/'run/config.json').write_text('{}') # a run, as far as is asked before torch
    return tmp_path

def test_all_is_told_at_once(clinic):
    c = check_data(clinic/'t.csv')
    assert len(c.frame)==3 and c.frame.patient.nunique()==2 and not c.stopped
    assert dict(zip(c.left_out.file.str[-6:], c.left_out.row.fillna(0)))=={'e3.jpg':5, 'e4.jpg':6, '55.jpg':8, 'e5.jpg':0}
    for o in ("patients are read from the column 'MRN'", 'E0.JPG is e0.jpg', "'dme' (1) as 'DME'", 'no age (>89)', "say nothing in 'Diagnosis'",
              'e55.jpg is like e5.jpg', 'cannot be read', '3 images of 2 patients can be used: DME 2, normal 1'):
        assert o in repr(c), o

def test_a_notebook_is_told_no_progress_bars(clinic, monkeypatch):
    "A bar that was drawn while the table was read stood among the sentences, its blanks as a second one"
    monkeypatch.setitem(sys.modules, 'ipykernel', sys) # somebody watches
    bars = check_data(clinic/'t.csv').said
    monkeypatch.delitem(sys.modules, 'ipykernel')
    assert bars==check_data(clinic/'t.csv').said and any('cannot be read' in o for o in bars)

def test_a_clean_table_trains(clinic):
    out = check_data(clinic/'t.csv').save(clinic/'out')
    again = check_data(out/'cleaned.csv')
    assert not len(again.left_out) and len(again.frame)==3 and again.frame.patient.nunique()==2
    assert pd.read_csv(out/'exclusions.csv').columns.tolist()==['row','file','why']
    with pytest.raises(DataError, match='not empty'): check_data(clinic/'t.csv').save(out)

def test_a_full_disk_leaves_the_earlier_tables_as_they_were(clinic, monkeypatch):
    "With `force` a new cleaned.csv came to stand beside older exclusions"
    out = check_data(clinic/'t.csv').save(clinic/'out')
    def there(): return {o.name:o.read_bytes() for o in out.iterdir()}
    before,real,n = there(),pd.DataFrame.to_csv,[]
    def full(self, *args, **kwargs):
        n.append(1)
        if len(n)>1: raise OSError(28, 'No space left on device')
        return real(self, *args, **kwargs)
    (clinic/'t.csv').write_text((clinic/'t.csv').read_text().replace('e2.jpg,normal,2,50', 'e2.jpg,?,2,50'))
    c = check_data(clinic/'t.csv')
    with monkeypatch.context() as m:
        m.setattr(pd.DataFrame, 'to_csv', full)
        with pytest.raises(OSError): c.save(out, force=True)
    assert len(n)==2 and there()==before
    c.save(out, force=True)
    assert set(there())==set(before) and all(there()[k]!=v for k,v in before.items())

def test_what_stands_in_the_way(clinic, capsys):
    (clinic/'odd.csv').write_text('file,verdict\ne0.jpg,a\ne1.jpg,b\n')
    c = check_data(clinic/'odd.csv')
    assert c.stopped and 'perhaps verdict' in repr(c)
    with pytest.raises(DataError, match='nothing to write'): c.save(clinic/'o')
    assert main(['check', str(clinic/'odd.csv')])==1 and '--label COL' in capsys.readouterr().out

def test_folders(tmp_path):
    eyes(tmp_path, ['A/1_left.png','A/1_right.png','B/2_left.png','B/3.png'])
    (tmp_path/'C').mkdir()
    c = check_data(tmp_path)
    assert 'folders without images: C' in repr(c) and '4 images of 3 patients can be used: A 2, B 2' in repr(c)

def test_command(clinic, capsys):
    assert main(['check', str(clinic/'t.csv'), '--out', str(clinic/'out')])==1
    io = capsys.readouterr()
    assert 'cleaned.csv (path, patient' in io.out and '4 rows cannot be used' in io.err and '--data' in io.err and '--out' not in io.err, "it asked for what had just been done"
    assert main(['check', str(clinic/'out'/'cleaned.csv')])==0

def test_phantoms_are_told_in_a_line(tmp_path):
    make_phantom('kermany2018', tmp_path/'p', 8)
    c = check_data(tmp_path/'p')
    assert sum('PHANTOM' in o for o in c.said)==1 and not any('===' in o for o in c.said), "the banner's lines stood there as findings"

def test_no_torch(clinic):
    src = f"import sys; from fundus_fastai.cli import main; main(['check', {str(clinic/'t.csv')!r}]); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', src], capture_output=True, text=True).stdout.splitlines()[-1]=='False'

@pytest.mark.parametrize('argv,says', [
    (['train','dr','--data','t.csv','--patient','nonsense'], "unknown column 'nonsense' (there are: File, Diagnosis, MRN, Age); choose with --patient COL"),
    (['compare','dr','--data','t.csv','--label','no'], 'choose with --label COL'), (['train','dr','--data','no.csv'], 'does not exist'),
    (['evaluate','run','--data','t.csv','--age','years'], 'choose with --age COL'), (['benchmark','run','--data','kermani2018'], 'did you mean kermany2018'),
    (['train','octt'], 'did you mean oct?'), (['compare','dr','--recipe','colr'], 'did you mean color'), (['train','dr','--weights','no.npz'], 'no weights at no.npz'),
    (['train','disease','--data','.','--label','dx'], '--label tells how to read a CSV'), (['train','dr','--data','.','--images','x'], '--images tells how')])
def test_wrong_names_are_refused_before_torch(clinic, argv, says):
    src = f"import sys; from fundus_fastai.cli import main; print(main({argv!r}), 'torch' in sys.modules)"
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', src], capture_output=True, text=True, cwd=clinic)
    assert r.stdout.split()==['1','False'] and says in r.stderr, r.stderr
    assert r.stderr.count(str(clinic))<=1

def test_right_names_pass(clinic):
    check_named(clinic/'t.csv', label='diagnosis', patient='mrn', age='Age', skip_broken=True, patients=80)
    check_named(clinic/'t.csv', patient='none')
    check_named(clinic, patient='none')
    for o in ('phantom','kermany2018'): check_named(o, label='any')

def test_a_folder_has_no_label_to_choose(clinic):
    assert '`label` tells how to read a CSV' in repr(check_data(clinic, label='dx'))
