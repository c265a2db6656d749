// The peers of bench/engine_rows.c, on the same words and in the same way: engine_peers
// FILE.tsv DIRECTORY. libmarisa with three tries, LMDB and RocksDB in DIRECTORY, and a sorted
// map. Values are a 64-bit version and a 32-bit score. Prints names=values.
#include <lmdb.h>
#include <marisa.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace
{

constexpr size_t kLookupCount = 200000, kBatch = 1000;
constexpr size_t kMapBytes = size_t{16} << 30;

struct Value {
    uint64_t version;
    uint32_t score;
} __attribute__((packed));

struct Data {
    std::vector<std::string> keys; // In order.
    std::vector<Value> values;
    std::vector<uint32_t> order; // Random.
    size_t key_bytes = 0;
};

double now_s()
{
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void report(const char *name, double value)
{
    std::printf("%s=%.6g\n", name, value);
    std::fflush(stdout);
}

[[noreturn]] void fail(const std::string &what)
{
    std::fprintf(stderr, "engine_peers: %s\n", what.c_str());
    std::exit(1);
}

void check(bool holds, const std::string &what)
{
    if (!holds) fail(what);
}

Data read(const char *path)
{
    std::ifstream file(path);
    check(file.good(), path);
    std::vector<std::pair<std::string, Value>> lines;
    for (std::string line; std::getline(file, line);) {
        size_t tab = line.find('\t');
        double score = tab == std::string::npos ? 1 : std::atof(line.c_str() + tab + 1);
        uint64_t ms = 1700000000000 + lines.size() / 500;
        uint64_t version = (ms << 16) + lines.size() % 500;
        lines.push_back({line.substr(0, tab), Value{version, static_cast<uint32_t>(score)}});
    }
    std::sort(lines.begin(), lines.end(),
              [](const auto &a, const auto &b) { return a.first < b.first; });
    Data data;
    for (auto &line : lines) {
        data.key_bytes += line.first.size();
        data.keys.push_back(std::move(line.first));
        data.values.push_back(line.second);
    }
    data.order.resize(data.keys.size());
    for (size_t i = 0; i < data.order.size(); i++) data.order[i] = static_cast<uint32_t>(i);
    std::shuffle(data.order.begin(), data.order.end(), std::mt19937(1));
    return data;
}

double per_key(const Data &data, double value)
{
    return value / static_cast<double>(data.keys.size());
}

size_t lookups_of(const Data &data)
{
    return std::min(kLookupCount, data.keys.size());
}

/* The words to look up, one after the other in memory, so that what is timed is the trie
 * and not the way to the next question. engine_rows.c does the same. */
std::vector<std::string_view> asked_of(const Data &data)
{
    static std::string bytes;
    bytes.clear();
    for (size_t i = 0; i < lookups_of(data); i++) bytes += data.keys[data.order[i]];
    std::vector<std::string_view> asked;
    size_t at = 0;
    for (size_t i = 0; i < lookups_of(data); i++) {
        size_t size = data.keys[data.order[i]].size();
        asked.push_back(std::string_view(bytes).substr(at, size));
        at += size;
    }
    return asked;
}

void measure_marisa(const Data &data)
{
    marisa::Keyset keyset;
    for (const auto &key : data.keys) keyset.push_back(key.data(), key.size());
    marisa::Trie trie;
    trie.build(keyset, 3);
    report("marisa_bytes", per_key(data, static_cast<double>(trie.io_size())));

    marisa::Agent agent;
    size_t found = 0, bytes = 0;
    const std::vector<std::string_view> asked = asked_of(data);
    double start = now_s();
    for (const auto &key : asked) {
        agent.set_query(key.data(), key.size());
        found += trie.lookup(agent);
    }
    report("marisa_lookup_ns", (now_s() - start) / static_cast<double>(lookups_of(data)) * 1e9);
    check(found == lookups_of(data), "marisa lost a key");

    marisa::Agent walk;
    walk.set_query("");
    start = now_s();
    while (trie.predictive_search(walk)) bytes += walk.key().length();
    report("marisa_scan_ns", per_key(data, (now_s() - start) * 1e9));
    check(bytes == data.key_bytes, "marisa's walk is not whole");
}

void measure_map(const Data &data)
{
    std::map<std::string, Value> map;
    double start = now_s();
    for (uint32_t index : data.order) map.emplace(data.keys[index], data.values[index]);
    report("map_insert_per_s", 1 / per_key(data, now_s() - start));
    check(map.size() == data.keys.size(), "the map lost a key");
}

struct Lmdb {
    MDB_env *env = nullptr;
    MDB_dbi dbi = 0;

    explicit Lmdb(const std::string &directory)
    {
        std::filesystem::create_directories(directory);
        check(mdb_env_create(&env) == 0, "LMDB");
        check(mdb_env_set_mapsize(env, kMapBytes) == 0, "LMDB's map size");
        check(mdb_env_open(env, directory.c_str(), MDB_NOSYNC, 0644) == 0, "LMDB's open");
    }
    ~Lmdb()
    {
        mdb_env_close(env);
    }
};

void lmdb_insert(const Data &data, Lmdb &lmdb)
{
    MDB_txn *transaction = nullptr;
    double start = now_s();
    for (size_t i = 0; i < data.keys.size(); i++) {
        if (transaction == nullptr) {
            check(mdb_txn_begin(lmdb.env, nullptr, 0, &transaction) == 0, "LMDB's begin");
            check(mdb_dbi_open(transaction, nullptr, 0, &lmdb.dbi) == 0, "LMDB's database");
        }
        const std::string &key = data.keys[data.order[i]];
        Value value = data.values[data.order[i]];
        MDB_val k{key.size(), const_cast<char *>(key.data())}, v{sizeof value, &value};
        check(mdb_put(transaction, lmdb.dbi, &k, &v, 0) == 0, "LMDB's put");
        if (i % kBatch != kBatch - 1 && i + 1 != data.keys.size()) continue;
        check(mdb_txn_commit(transaction) == 0, "LMDB's commit");
        transaction = nullptr;
    }
    report("lmdb_insert_per_s", 1 / per_key(data, now_s() - start));
}

void lmdb_scan(const Data &data, Lmdb &lmdb)
{
    MDB_txn *transaction;
    MDB_cursor *cursor;
    MDB_val key, value;
    size_t bytes = 0;
    check(mdb_txn_begin(lmdb.env, nullptr, MDB_RDONLY, &transaction) == 0, "LMDB's begin");
    check(mdb_cursor_open(transaction, lmdb.dbi, &cursor) == 0, "LMDB's cursor");
    double start = now_s();
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) bytes += key.mv_size;
    report("lmdb_scan_ns", per_key(data, (now_s() - start) * 1e9));
    check(bytes == data.key_bytes, "LMDB's walk is not whole");
    mdb_cursor_close(cursor);
    mdb_txn_abort(transaction);
}

rocksdb::Options rocksdb_options()
{
    rocksdb::Options options;
    options.create_if_missing = true;
    options.compression = rocksdb::kLZ4Compression;
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(size_t{1} << 30);
    options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    return options;
}

rocksdb::Slice slice_of(const Value &value)
{
    return {reinterpret_cast<const char *>(&value), sizeof value};
}

void rocksdb_size(const Data &data, const std::string &directory)
{
    std::filesystem::create_directories(directory);
    std::string path = directory + "/all.sst";
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), rocksdb_options());
    check(writer.Open(path).ok(), "RocksDB's writer");
    for (size_t i = 0; i < data.keys.size(); i++)
        check(writer.Put(data.keys[i], slice_of(data.values[i])).ok(), "RocksDB's file");
    check(writer.Finish().ok(), "RocksDB's file");
    report("rocksdb_bytes", per_key(data, static_cast<double>(std::filesystem::file_size(path))));
}

void measure_rocksdb(const Data &data, const std::string &directory)
{
    rocksdb::DB *opened;
    check(rocksdb::DB::Open(rocksdb_options(), directory, &opened).ok(), "RocksDB's open");
    std::unique_ptr<rocksdb::DB> db(opened);
    double start = now_s();
    for (uint32_t index : data.order)
        check(db->Put(rocksdb::WriteOptions(), data.keys[index], slice_of(data.values[index])).ok(),
              "RocksDB's put");
    report("rocksdb_insert_per_s", 1 / per_key(data, now_s() - start));
    check(db->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr).ok(), "RocksDB");

    for (int round = 0; round < 2; round++) { // The first fills the cache.
        size_t bytes = 0;
        start = now_s();
        std::unique_ptr<rocksdb::Iterator> iterator(db->NewIterator(rocksdb::ReadOptions()));
        for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next())
            bytes += iterator->key().size();
        check(bytes == data.key_bytes, "RocksDB's walk is not whole");
        if (round == 1) report("rocksdb_scan_ns", per_key(data, (now_s() - start) * 1e9));
    }
}

} // namespace

int main(int count, char **arguments)
{
    if (count != 3) {
        std::fprintf(stderr, "usage: engine_peers FILE.tsv DIRECTORY\n");
        return 2;
    }
    std::string directory = arguments[2];
    std::filesystem::remove_all(directory);
    Data data = read(arguments[1]);
    measure_marisa(data);
    measure_map(data);
    {
        Lmdb lmdb(directory + "/lmdb");
        lmdb_insert(data, lmdb);
        lmdb_scan(data, lmdb);
    }
    rocksdb_size(data, directory + "/sst");
    measure_rocksdb(data, directory + "/rocksdb");
    std::filesystem::remove_all(directory);
    return 0;
}
