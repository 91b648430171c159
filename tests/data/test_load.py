"open_data: names, folders, tables, downloads, and phantoms that say so"
import pytest
from fundus_fastai.core import DataError, DownloadError, EyeError, write_json
from fundus_fastai.image.read import check_images
from fundus_fastai.data import load as opened
from fundus_fastai.data.splits import check_split, split_patients
from fundus_fastai.data.load import open_data
from fundus_fastai.run.check import check_data, check_named
from made import touch

def test_auto_without_credentials_draws_with_a_banner(nobody, capsys):
    df = open_data('kermany2018', patients=8)
    err = capsys.readouterr().err
    assert df.attrs['source']=='phantom' and 'PHANTOM DATA' in err and 'no Kaggle credentials' in err
    assert open_data('phantom', patients=8).path.tolist()==df.path.tolist()
    assert 'PHANTOM DATA' in (said := capsys.readouterr().err) and 'lies here' not in said
    for args in [(df.attrs['root'],), ('kermany2018', df.attrs['root'])]:
        open_data(*args)
        assert 'PHANTOM DATA' in capsys.readouterr().err

def test_a_table_of_phantoms_is_in_the_layout_of_no_set(nobody, tmp_path, capsys):
    "The banner told of phantoms in the layout of csv"
    df = open_data('phantom', patients=8)
    df.to_csv(tmp_path/'mine.csv', index=False)
    assert 'in the layout of kermany2018. Nothing' in capsys.readouterr().err
    assert open_data(tmp_path/'mine.csv').attrs['source']=='phantom'
    err = capsys.readouterr().err; assert '8 made-up patients. Nothing measured' in err, err

def test_auto_never_hides_a_failed_download(nobody, monkeypatch, capsys):
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_x')
    def fail(*a, **k): raise DownloadError('403 from Kaggle')
    monkeypatch.setattr(opened, 'download', fail)
    with pytest.raises(DownloadError, match='403'): open_data('kermany2018')
    assert 'PHANTOM' not in capsys.readouterr().err and not (nobody/'data').exists()

def test_kaggle_without_credentials_is_an_error(nobody):
    with pytest.raises(DownloadError, match='no Kaggle credentials'): open_data('kermany2018', 'kaggle')

def test_auto_uses_a_finished_download(nobody, capsys):
    r = touch(nobody/'data/kermany2018', 'OCT2017/train/CNV/CNV-1-1.jpeg')
    write_json(r/'PROVENANCE.json', {'source':'kaggle','name':'kermany2018','kaggle':'paultimothymooney/kermany2018',
        'kind':'dataset'})
    assert open_data('kermany2018').attrs['source']=='kaggle' and 'PHANTOM' not in capsys.readouterr().err

def test_auto_reads_no_download_with_lost_files(nobody):
    r = touch(nobody/'data/kermany2018', 'OCT2017/train/CNV/CNV-1-1.jpeg')
    write_json(r/'PROVENANCE.json', dict(source='kaggle', name='kermany2018', kaggle='paultimothymooney/kermany2018', kind='dataset', files=2))
    with pytest.raises(DownloadError, match='lacks 1 of 2 files: `force=True` fetches kermany2018 again'): open_data('kermany2018')

def test_a_kept_archive_needs_no_credentials(nobody, monkeypatch, capsys):
    from stub_kaggle import make_zip
    from fundus_fastai.core import sha256
    monkeypatch.setenv('FUNDUS_DATA', str(nobody/'runtime'))
    f = nobody/'data/archives/kermany2018.zip'
    f.parent.mkdir(parents=True); f.write_bytes(make_zip({'OCT2017 /train/CNV/CNV-1-1.jpeg':b'x'*100}))
    write_json(f.with_name('kermany2018.zip.json'), {'source':'kaggle','name':'kermany2018','kaggle':'paultimothymooney/kermany2018',
        'kind':'dataset','sha256':sha256(f),'downloaded':'2026-11-27'})
    monkeypatch.setattr(opened.get_card('kermany2018'), 'gb_unpacked', 0)
    assert opened.ask_download('kermany2018')
    df = open_data('kermany2018')
    assert df.attrs['source']=='kaggle' and str(nobody/'runtime') in df.path[0] and 'PHANTOM' not in capsys.readouterr().err

def test_asking(nobody, monkeypatch, capsys):
    assert not opened.ask_download('kermany2018') and 'no Kaggle credentials' in capsys.readouterr().err
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_x')
    asked = []
    monkeypatch.setattr('builtins.input', lambda q: asked.append(q) or 'y')
    assert opened.ask_download('kermany2018') and '5.5 GB' in asked[0] and 'CC BY' in asked[0]
    monkeypatch.setattr('builtins.input', lambda q: '')
    assert not opened.ask_download('kermany2018')

def test_phantoms_go_where_pictures_go(nobody, monkeypatch):
    monkeypatch.setenv('FUNDUS_DATA', str(nobody/'runtime'))
    assert str(nobody/'runtime'/'phantoms') in open_data('phantom', patients=8).path[0] and not (nobody/'data').exists()

def test_a_folder_that_bears_the_name_of_a_set_is_read(nobody, monkeypatch, capsys):
    "Not phantoms: whoever has the set beside them names it as lessons do"
    (nobody/'work').mkdir()
    monkeypatch.chdir(nobody/'work')
    touch(nobody/'work', 'kermany2018/OCT2017/train/CNV/CNV-1-1.jpeg', 'kermany2018/OCT2017/train/NORMAL/NORMAL-2-1.jpeg')
    df = open_data('kermany2018')
    said = capsys.readouterr().err
    assert df.attrs['source']=='local' and len(df)==2 and 'PHANTOM' not in said and 'lies here is read' in said
    assert opened.ask_download('kermany2018') and check_named('kermany2018') is None
    assert open_data('kermany2018', 'phantom', patients=8).attrs['source']=='phantom'

def test_an_empty_folder_here_is_none(nobody, monkeypatch):
    (nobody/'work/kermany2018').mkdir(parents=True)
    monkeypatch.chdir(nobody/'work')
    assert open_data('kermany2018', patients=8).attrs['source']=='phantom' and not opened.ask_download('kermany2018')
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_x')
    monkeypatch.setattr(opened, 'download', lambda *a, **k: pytest.fail('it fetched'))
    assert 'is not here' in str(check_data('kermany2018'))

def test_a_look_fetches_nothing(nobody, monkeypatch):
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_x')
    monkeypatch.setattr(opened, 'download', lambda *a, **k: pytest.fail('it fetched'))
    said = str(check_data('kermany2018'))
    assert 'is not here' in said and 'fundus download kermany2018' in said

def test_a_look_at_phantoms_or_at_ones_own_is_let_pass(nobody):
    "Without credentials phantoms are drawn; what is no name of a set is no download"
    assert [opened.refuse_download(o) for o in ('kermany2018','mine.csv',nobody)]==[None]*3

def test_a_folder_is_read_as_the_set_that_is_named(nobody):
    touch(nobody/'mine', 'A/1.png', 'B/2.png')
    with pytest.raises(DataError, match='mine holds no|mine is not'): open_data('kermany2018', nobody/'mine')
    assert open_data('folder', nobody/'mine').attrs['name']=='folder'

def test_data_that_nobody_may_download_are_asked_for_by_their_folder(nobody, monkeypatch):
    "Whatever credentials there are"
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_x')
    monkeypatch.setattr(opened, '_open_phantom', lambda card, *args: (card.name, args[-1]))
    name,why = open_data('ukb')
    assert name=='ukb' and 'by application' in why and 'cannot be downloaded: name the folder where they lie' in why

def test_open_paths(nobody):
    touch(nobody/'mine', 'A/1.png', 'B/2.png')
    (nobody/'mine/t.csv').write_text('file,patient,x\nA/1.png,p,0\nB/2.png,q,1\n')
    assert open_data(nobody/'mine').attrs['source']=='local'
    assert len(open_data(nobody/'mine', label='label', patient=None, skip_broken=False))==2 # as the command line asks
    assert open_data(str(nobody/'mine/t.csv'), label='x', patient=None).label.tolist()==['0','1']
    for name,why in {'kermani':'did you mean kermany2018', 'no/where':'does not exist', 'no.csv':'does not exist',
        'folder':'a kind of data'}.items():
        with pytest.raises(EyeError, match=why): open_data(name)
    with pytest.raises(DataError, match='`path_col` tells how to read a CSV'): open_data(nobody/'mine', path_col='x')

def test_real_oct_dme(test_data):
    df = open_data(test_data/'oct_dme/labels.csv', label='DME', patient='patient_id')
    assert (len(df), df.patient.nunique(), set(df.label), set(df.eye)) == (709, 527, {'0','1'}, {'L','R'})
    s = check_split(split_patients(df))
    assert s.groupby('split').label.nunique().tolist()==[2,2,2] and not len(check_images(df.path))
